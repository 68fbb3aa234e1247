//! Reads every pstats file that some tool writes, and makes a proper table of it.
//!
//! Seen in the wild: `cProfile` and `profile` of every Python (the latter with plain numbers for
//! callers, and Python 2 with bytes for names), the sampler of CPython 3.15 (numbers for callers, and a
//! marker), pyinstrument (counts of -1), yappi, and files that other programs went over (lists
//! for tuples, floats for counts, callers that are no rows, NaN, two tuples of 4 made one of 8).

use std::collections::HashMap;
use std::sync::Arc;

use pystrobe_profile::{Caller, Counted, FunctionKey, Profile, Row, StatsTable, escape};

use super::SAMPLED;
use crate::marshal::{self, MarshalError, Object, Value};
use crate::trailer;

/// What a pstats file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PstatsFile {
    /// The rows, in the order of the file. In a file with the marker of CPython 3.15 the counts are
    /// those of the samples on the stack.
    pub table: StatsTable,
    /// What the table's counts are: samples where the file has the marker of CPython 3.15, and then its rows are
    /// executing lines; calls in all others, as far as they tell. A sampled file of ours has its word in the profile.
    pub counted: Counted,
    /// The whole profile, where the file is one of ours.
    pub profile: Option<Profile>,
    /// Why there is no profile although the file is one of ours.
    pub trailer_problem: Option<String>,
}

/// Why bytes are not a pstats file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PstatsError {
    /// They are not marshalled, or cut short.
    #[error("not a complete pstats file: {0}")]
    Marshal(#[from] MarshalError),
    /// They are something else.
    #[error("not a pstats file: {expected} expected at byte {offset}")]
    Shape {
        /// What should be there.
        expected: &'static str,
        /// How many bytes come before it.
        offset: usize,
    },
    /// There is no row.
    #[error("an empty profile: it has no functions")]
    Empty,
    /// A few bytes say a lot many times over, as no profiler writes it.
    #[error("not a pstats file: more callers than its {len} bytes can tell of")]
    TooManyCallers {
        /// Length of the input, in bytes.
        len: usize,
    },
}

/// Reads a pstats file, and the profile behind it where it is one of ours.
///
/// # Errors
///
/// When it is not a pstats file, is cut short, or has no rows. A trailer that cannot be read is not
/// an error: the table is there all the same.
pub fn read_pstats(bytes: &[u8]) -> Result<PstatsFile, PstatsError> {
    let document = marshal::read(bytes)?;
    let root = document.root();
    let Object::Dict(_) = root.object() else {
        return Err(shape("a dict", root));
    };
    let mut rows = Rows {
        // A caller of its own is two references of 5 bytes at least.
        callers_left: bytes.len() / 8,
        ..Rows::default()
    };
    let mut sampled = false;
    // All rows first, so that they stay in the order of the file however they call each other.
    let mut told = Vec::new();
    let mut entries = root.items();
    while let (Some(key), Some(value)) = (entries.next(), entries.next()) {
        if is_marker(key) {
            sampled = true;
        } else {
            told.push((rows.row(key)?, value));
        }
    }
    for (row, value) in told {
        rows.add(row as usize, value)
            .map_err(|problem| match problem {
                Problem::Shape(error) => error,
                Problem::TooManyCallers => PstatsError::TooManyCallers { len: bytes.len() },
            })?;
    }
    let table = rows.into_table(sampled).ok_or(PstatsError::Empty)?;
    let (profile, trailer_problem) = match trailer::read(&bytes[document.end()..]) {
        Ok(profile) => (profile, None),
        Err(problem) => (None, Some(problem.to_string())),
    };
    Ok(PstatsFile {
        table,
        counted: if sampled {
            Counted::Samples
        } else {
            Counted::Calls
        },
        profile,
        trailer_problem,
    })
}

fn shape(expected: &'static str, found: Value<'_, '_>) -> PstatsError {
    PstatsError::Shape {
        expected,
        offset: found.offset(),
    }
}

fn is_marker(key: Value<'_, '_>) -> bool {
    key.items().len() == 1
        && matches!(
            key.item(0).map(Value::object),
            Some(Object::Str(text)) if text == SAMPLED
        )
}

enum Problem {
    Shape(PstatsError),
    TooManyCallers,
}

impl From<PstatsError> for Problem {
    fn from(error: PstatsError) -> Self {
        Self::Shape(error)
    }
}

/// The numbers of a row or of a caller.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    cc: u64,
    nc: u64,
    tt: f64,
    ct: f64,
}

impl Numbers {
    fn add(&mut self, other: Numbers) {
        self.cc = self.cc.saturating_add(other.cc);
        self.nc = self.nc.saturating_add(other.nc);
        self.tt += other.tt;
        self.ct += other.ct;
    }
}

/// What a file says of a caller.
#[derive(Debug, Clone, Copy)]
enum Calls {
    /// All that there is to say.
    Told(Numbers),
    /// Only how many they are, as `profile` and the sampler of 3.15 write it.
    Counted(u64),
}

/// A row that is being put together.
#[derive(Debug)]
struct Draft {
    /// Positions of file and name in `texts`, and the line.
    key: (u32, u32, u32),
    /// `None` for a row that was only seen as a caller.
    numbers: Option<Numbers>,
    callers: Vec<(u32, Calls)>,
}

#[derive(Debug, Default)]
struct Rows {
    drafts: Vec<Draft>,
    positions: HashMap<(u32, u32, u32), u32>,
    /// Each text once. Keys are compared by positions in here: a file can say a long name
    /// often at little cost, and comparing it each time would take forever.
    texts: Vec<Arc<str>>,
    text_positions: HashMap<Arc<str>, u32>,
    /// Positions of texts by the objects that they were read from.
    texts_of_objects: HashMap<u32, u32>,
    callers_left: usize,
}

impl Rows {
    /// Adds what the file says of a row.
    fn add(&mut self, row: usize, value: Value<'_, '_>) -> Result<(), Problem> {
        let mut parts = sequence(value).ok_or_else(|| shape("(cc, nc, tt, ct, callers)", value))?;
        let (Some(cc), Some(nc), Some(tt), Some(ct), Some(callers)) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(shape("(cc, nc, tt, ct, callers)", value).into());
        };
        let numbers = Numbers {
            cc: count(cc)?,
            nc: count(nc)?,
            tt: seconds(tt)?,
            ct: seconds(ct)?,
        };
        self.drafts[row]
            .numbers
            .get_or_insert_default()
            .add(numbers);
        if !matches!(callers.object(), Object::Dict(_) | Object::None) {
            return Err(shape("a dict of callers", callers).into());
        }
        let mut entries = callers.items();
        while let (Some(caller), Some(calls)) = (entries.next(), entries.next()) {
            self.callers_left = self
                .callers_left
                .checked_sub(1)
                .ok_or(Problem::TooManyCallers)?;
            let calls = read_calls(calls)?;
            let caller = self.row(caller)?;
            self.drafts[row].callers.push((caller, calls));
        }
        Ok(())
    }

    /// The position of the row with this key, a new one when it was not seen before.
    fn row(&mut self, key: Value<'_, '_>) -> Result<u32, PstatsError> {
        let parts = sequence(key).filter(|parts| parts.len() == 3);
        let mut parts = parts.ok_or_else(|| shape("(file, line, name)", key))?;
        let (Some(file), Some(line), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(shape("(file, line, name)", key));
        };
        let line = u32::try_from(count(line)?).unwrap_or(u32::MAX);
        let key = (self.text(file)?, line, self.text(name)?);
        let next = self.drafts.len() as u32;
        Ok(*self.positions.entry(key).or_insert_with(|| {
            self.drafts.push(Draft {
                key,
                numbers: None,
                callers: Vec::new(),
            });
            next
        }))
    }

    fn text(&mut self, value: Value<'_, '_>) -> Result<u32, PstatsError> {
        if let Some(&known) = self.texts_of_objects.get(&value.id()) {
            return Ok(known);
        }
        let decoded;
        let text = match value.object() {
            Object::Str(text) => escape(text),
            Object::Bytes(bytes) => {
                decoded = marshal::decode_utf8(bytes);
                escape(&decoded)
            }
            Object::None => "~".into(),
            _ => return Err(shape("a name", value)),
        };
        let position = match self.text_positions.get(&*text) {
            Some(&known) => known,
            None => {
                let shared: Arc<str> = Arc::from(text);
                let next = self.texts.len() as u32;
                self.texts.push(Arc::clone(&shared));
                self.text_positions.insert(shared, next);
                next
            }
        };
        self.texts_of_objects.insert(value.id(), position);
        Ok(position)
    }

    /// The table; `None` when it has no rows.
    fn into_table(self, sampled: bool) -> Option<StatsTable> {
        let mut numbers: Vec<Numbers> = self
            .drafts
            .iter()
            .map(|draft| {
                let mut numbers = draft.numbers.unwrap_or_default();
                if sampled {
                    // There `cc` is samples on top, and `nc` is samples on the stack.
                    numbers.cc = numbers.nc;
                }
                numbers
            })
            .collect();
        let callers: Vec<Vec<Caller>> = self
            .drafts
            .iter()
            .zip(&numbers)
            .map(|(draft, callee)| callers(&draft.callers, *callee, sampled))
            .collect();
        // Of a caller that has no row, what it called is known and nothing else.
        for caller in callers.iter().flatten() {
            if self.drafts[caller.row].numbers.is_none() {
                numbers[caller.row].ct += caller.ct;
            }
        }
        let rows = self.drafts.iter().zip(numbers).zip(callers);
        let rows: Vec<Row> = rows
            .map(|((draft, numbers), callers)| {
                let (file, line, name) = draft.key;
                Row {
                    key: FunctionKey {
                        file: Arc::clone(&self.texts[file as usize]),
                        line,
                        name: Arc::clone(&self.texts[name as usize]),
                    },
                    cc: numbers.cc,
                    nc: numbers.nc,
                    tt: numbers.tt,
                    ct: numbers.ct,
                    callers,
                }
            })
            .collect();
        let table = StatsTable::from_rows(rows).ok()?;
        (!table.is_empty()).then_some(table)
    }
}

/// The callers of a row, each once.
fn callers(told: &[(u32, Calls)], callee: Numbers, sampled: bool) -> Vec<Caller> {
    let mut sum: HashMap<u32, Numbers> = HashMap::new();
    for &(caller, calls) in told {
        let numbers = match calls {
            Calls::Told(mut numbers) => {
                if sampled {
                    numbers.cc = numbers.nc;
                }
                numbers
            }
            // The best guess, and with samples of equal length nearly the truth: of the time
            // of the function, its share of the calls.
            Calls::Counted(calls) => {
                let share = if callee.nc == 0 {
                    0.0
                } else {
                    (calls as f64 / callee.nc as f64).min(1.0)
                };
                Numbers {
                    cc: calls.min(callee.cc),
                    nc: calls,
                    tt: callee.tt * share,
                    ct: callee.ct * share,
                }
            }
        };
        sum.entry(caller).or_default().add(numbers);
    }
    let mut callers: Vec<Caller> = sum
        .into_iter()
        .map(|(row, Numbers { cc, nc, tt, ct })| Caller {
            row: row as usize,
            nc,
            cc,
            tt,
            ct,
        })
        .collect();
    callers.sort_by_key(|caller| caller.row);
    callers
}

/// What a file says of a caller: a number, or `(nc, cc, tt, ct)`. `pstats` of old Pythons put two such
/// tuples one after the other where it should have added them.
fn read_calls(value: Value<'_, '_>) -> Result<Calls, PstatsError> {
    const EXPECTED: &str = "the numbers of a caller";
    /// Longer ones could only be meant to take time, when many callers refer to one of them.
    const LONGEST: usize = 64;
    let Some(parts) = sequence(value) else {
        return match value.object() {
            Object::Int(_) | Object::Float(_) | Object::Bool(_) => {
                Ok(Calls::Counted(count(value)?))
            }
            _ => Err(shape(EXPECTED, value)),
        };
    };
    let len = parts.len();
    if len == 0 || len % 4 != 0 || len > LONGEST {
        return Err(shape(EXPECTED, value));
    }
    let parts: Vec<Value<'_, '_>> = parts.collect();
    let mut sum = Numbers::default();
    for part in parts.chunks_exact(4) {
        sum.add(Numbers {
            nc: count(part[0])?,
            cc: count(part[1])?,
            tt: seconds(part[2])?,
            ct: seconds(part[3])?,
        });
    }
    Ok(Calls::Told(sum))
}

/// The items of a tuple or list.
fn sequence<'d, 'b>(
    value: Value<'d, 'b>,
) -> Option<impl ExactSizeIterator<Item = Value<'d, 'b>> + use<'d, 'b>> {
    matches!(value.object(), Object::Tuple(_) | Object::List(_)).then(|| value.items())
}

/// A count. What is negative or no number stands for "not known", which is 0.
fn count(value: Value<'_, '_>) -> Result<u64, PstatsError> {
    match *value.object() {
        Object::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
        // A cast takes NaN and what is negative to 0, and what is too large to the largest.
        Object::Float(count) => Ok(count.round() as u64),
        Object::Bool(count) => Ok(u64::from(count)),
        _ => Err(shape("a count", value)),
    }
}

/// Seconds. What is negative or no number is taken for none.
fn seconds(value: Value<'_, '_>) -> Result<f64, PstatsError> {
    let seconds = match *value.object() {
        Object::Int(seconds) => seconds as f64,
        Object::Float(seconds) => seconds,
        Object::Bool(seconds) => f64::from(u8::from(seconds)),
        _ => return Err(shape("a time", value)),
    };
    let is_time = seconds.is_finite() && seconds >= 0.0;
    Ok(if is_time { seconds } else { 0.0 })
}
