//! What code objects say, kept by address and proven anew for every sample.
//!
//! A code object can be freed and another one put in its place at any time, so an address alone names
//! nothing. What proves it (`code_identity`) rides in the same call as the frames and is read after
//! them: a code object that is still itself at the end was itself when the frame was read. 3.14 counts the
//! code objects that were freed: while that count stands still, nothing needs to be proven.

use std::collections::BTreeMap;

use pystrobe_profile::{Function, FunctionId};
use rustc_hash::FxHashMap;

use crate::code_identity::Identity;
use crate::code_object::{Code, describe};
use crate::layout::Layout;
use crate::memory::{ReadError, Region, RemoteMemory};
use crate::snapshot::{Group, Snapshot};

/// Bytes of the line tables of all code objects that are kept. A table of 100,000 statements has some 300 KiB; decoded it
/// takes up to eight times as much. Code objects may share a table, so what is mapped is no bound.
pub(crate) const MAX_LINE_TABLES: u64 = 64 << 20;

/// A code object that was seen. Never given twice: another code object at the same address is another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CodeId(u32);

#[derive(Debug)]
struct Entry {
    id: CodeId,
    identity: Identity,
    /// The stamp of the last proof.
    proven: u64,
}

/// All functions that were described, each once.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    ids: FxHashMap<Function, FunctionId>,
    /// Those that nobody was told of yet, in the order of their ids.
    pub(crate) fresh: Vec<Function>,
}

impl Functions {
    /// A function that stands for something which has no code.
    pub(crate) fn synthetic(&mut self, name: &str) -> FunctionId {
        self.id(Function {
            file: "~".into(),
            first_line: 0,
            name: name.into(),
            qualified_name: String::new(),
        })
    }

    fn id(&mut self, function: Function) -> FunctionId {
        let next = FunctionId::from_index(self.ids.len());
        *self.ids.entry(function).or_insert_with_key(|function| {
            self.fresh.push(function.clone());
            next
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    by_address: FxHashMap<u64, Entry>,
    /// Where each code object's instructions start, with their end and the address of the object.
    by_bytecode: BTreeMap<u64, (u64, u64)>,
    /// By [`CodeId`]. What is no longer at its address is dropped, so that a program which makes code
    /// objects all day does not fill our memory.
    codes: Vec<Option<(FunctionId, Code)>>,
    /// Ids that are no longer at their address; a stack that was read a moment ago may still hold them.
    outdated: Vec<CodeId>,
    pub(crate) functions: Functions,
    /// `PyCode_Type` in the target, as soon as it is known.
    code_type: Option<u64>,
    wanted: Vec<(Region, Group)>,
    /// Bytes of the line tables of all that is in `codes`.
    line_tables: u64,
}

impl Codes {
    pub(crate) fn new(code_type: Option<u64>) -> Self {
        Self {
            code_type,
            ..Self::default()
        }
    }

    /// The code object of an id that was proven in the current reading, and its function.
    pub(crate) fn get(&self, id: CodeId) -> Option<&(FunctionId, Code)> {
        self.codes.get(id.0 as usize)?.as_ref()
    }

    /// Frees what was replaced. Between two readings, when no stack refers to it any more.
    pub(crate) fn drop_outdated(&mut self) {
        for id in self.outdated.drain(..) {
            if let Some(code) = self.codes.get_mut(id.0 as usize)
                && let Some((_, code)) = code.take()
            {
                self.line_tables -= code.table_length;
            }
        }
    }

    /// The code object at an address, if it was proven at this stamp.
    pub(crate) fn proven(&self, address: u64, stamp: u64) -> Option<CodeId> {
        self.by_address
            .get(&address)
            .filter(|entry| entry.proven == stamp)
            .map(|entry| entry.id)
    }

    /// The code object at an address, as it was when it was last proven.
    pub(crate) fn last_at(&self, address: u64) -> Option<&Code> {
        let (_, code) = self.get(self.by_address.get(&address)?.id)?;
        Some(code)
    }

    /// The address of the code object that an instruction belongs to, where it was seen before.
    pub(crate) fn of_instruction(&self, instruction: u64) -> Option<u64> {
        let (_, &(end, address)) = self.by_bytecode.range(..=instruction).next_back()?;
        (instruction < end).then_some(address)
    }

    /// Proves what is at `addresses`, as of `stamp`; what is new there is read. An address where no code
    /// object is stays unproven. Gives whether something was read for the first time.
    pub(crate) fn prove<M: RemoteMemory>(
        &mut self,
        memory: &M,
        snapshot: &mut Snapshot,
        layout: &Layout,
        addresses: &[u64],
        stamp: u64,
    ) -> Result<bool, ReadError> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.clear();
        for address in addresses {
            if let Some(entry) = self.by_address.get(address) {
                entry.identity.evidence(&layout.code, *address, |region| {
                    if snapshot.get(region).is_none() {
                        wanted.push((region, Group::Code));
                    }
                });
            }
        }
        let fetched = snapshot.fetch(memory, &wanted);
        self.wanted = wanted;
        fetched?;

        let mut news = false;
        for &address in addresses {
            if let Some(entry) = self.by_address.get_mut(&address) {
                if entry.identity.holds(snapshot, &layout.code, address) {
                    entry.proven = stamp;
                    continue;
                }
                self.forget(address);
            }
            let room = MAX_LINE_TABLES.saturating_sub(self.line_tables);
            match describe(memory, layout, address, &mut self.code_type, room) {
                Ok(found) => {
                    let function = self.functions.id(found.function);
                    self.learn(address, found.identity, function, found.code, stamp);
                    news = true;
                }
                Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }

    fn learn(
        &mut self,
        address: u64,
        identity: Identity,
        function: FunctionId,
        code: Code,
        proven: u64,
    ) {
        let id = CodeId(u32::try_from(self.codes.len()).unwrap_or(u32::MAX));
        if let Some((start, end)) = code.bytecode {
            self.by_bytecode.insert(start, (end, address));
        }
        self.line_tables += code.table_length;
        self.codes.push(Some((function, code)));
        let entry = Entry {
            id,
            identity,
            proven,
        };
        self.by_address.insert(address, entry);
    }

    fn forget(&mut self, address: u64) {
        if let Some(entry) = self.by_address.remove(&address) {
            if let Some((_, code)) = self.get(entry.id)
                && let Some((start, _)) = code.bytecode
            {
                self.by_bytecode.remove(&start);
            }
            self.outdated.push(entry.id);
        }
    }
}
