//! `--async all`: a value that may be left out, behind a space.
//!
//! clap takes the next word for such a value whatever it is, so that `run --async script.py` would have none to run; or it takes
//! a value only behind `=`. That is what it is told here, and the two words are made one where the second is a value.

use std::ffi::{OsStr, OsString};

use super::Cli;

const OPTION: &str = "--async";
const VALUES: [&str; 2] = ["running", "all"];

/// What was typed, with `--async all` as `--async=all`; not where it belongs to the program that is to be run. A script of
/// that name is `./all`.
pub(super) fn joined(typed: &[OsString]) -> Vec<OsString> {
    let mut joined = typed.to_vec();
    // If the first one is not ours, the program begins before it.
    if let Some(place) = typed.iter().position(|word| word == OPTION)
        && let Some(value) = typed.get(place + 1)
        && VALUES.iter().any(|one| OsStr::new(one) == value)
        && is_ours(&typed[..=place])
    {
        let mut word = joined.remove(place);
        word.push("=");
        word.push(joined.remove(place));
        joined.insert(place, word);
    }
    joined
}

/// Whether the last word is taken for our option, as the command line begins.
fn is_ours(typed: &[OsString]) -> bool {
    let parser = Cli::description().ignore_errors(true);
    let Ok(matches) = parser.try_get_matches_from(typed) else {
        return false;
    };
    matches.subcommand().is_some_and(|(_, matches)| {
        matches
            .try_contains_id("async")
            .is_ok_and(|contained| contained)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_our_own_value_is_joined() {
        for (typed, expected) in [
            ("attach 12 --async all", "attach 12 --async=all"),
            (
                "attach --async running 12 -q",
                "attach --async=running 12 -q",
            ),
            ("attach --async 12", "attach --async 12"),
            ("run --async all a.py", "run --async=all a.py"),
            ("run -q --async all -m a -x", "run -q --async=all -m a -x"),
            ("run --async a.py all", "run --async a.py all"),
            (
                "run --async a.py --async all",
                "run --async a.py --async all",
            ),
            ("run a.py --async all", "run a.py --async all"),
            ("run -m a --async all", "run -m a --async all"),
            ("run -c a --async all", "run -c a --async all"),
            ("run -- a --async all", "run -- a --async all"),
            (
                "run -d 3 -o x --async all -- a",
                "run -d 3 -o x --async=all -- a",
            ),
            ("top --async all 12", "top --async=all 12"),
            ("dump --async all 12", "dump --async=all 12"),
            ("dump 12 --async --json", "dump 12 --async --json"),
            ("--async all", "--async all"),
            ("attach 12 --async", "attach 12 --async"),
        ] {
            let typed = words(&format!("pystrobe {typed}"));
            assert_eq!(joined(&typed), words(&format!("pystrobe {expected}")));
        }
    }
}
