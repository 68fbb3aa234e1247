//! `s`: writes the recording to a file.

use std::path::{Path, PathBuf};

use pystrobe_exporters::{Format, Style};
use pystrobe_profile::Profile;

use crate::args::{OutputSpec, Place};
use crate::errors::Failure;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::stderr::Notes;

/// Whether something of that name is there already.
pub(super) fn exists(name: &str) -> bool {
    Path::new(name).symlink_metadata().is_ok()
}

/// Writes all of a recording to a file: pstats, unless the name tells another format. Says where it went.
///
/// # Errors
///
/// Where there is nothing to write, or it cannot be written.
pub(super) fn save(profile: &Profile, name: &str, litter: &Litter) -> Result<String, Failure> {
    if profile.is_empty() {
        return Err(Failure::NothingSampled {
            clock: profile.clock(),
        });
    }
    let path = PathBuf::from(name);
    let format = Format::from_path(&path).unwrap_or(Format::Pstats);
    let spec = OutputSpec {
        place: Place::File(path.clone()),
        format,
    };
    let outputs = Outputs::open(&[spec], litter)?;
    let style = Style::default();
    // The terminal is the view's: what is to be said is given back.
    outputs
        // One file, which a name typed into the view is for all.
        .write(&[], |_, format, out| {
            pystrobe_exporters::write(profile, format, &style, out)
        })
        .tell(Notes::new(true))?;
    let shown = path.canonicalize().unwrap_or(path);
    Ok(format!("wrote {} ({format})", shown.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::example;
    use pystrobe_profile::Recording;

    #[test]
    fn the_name_tells_the_format_and_pstats_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let profile = example::two_threads().finish(Recording::default());
        for (name, format) in [
            ("a.pstats", "pstats"),
            ("b.folded", "folded"),
            ("c", "pstats"),
        ] {
            let path = folder.path().join(name);
            let path = path.to_str().unwrap();
            assert!(!exists(path));
            let said = save(&profile, path, &Litter::default()).unwrap();
            assert!(said.contains(name) && said.contains(format), "{said}");
            assert!(exists(path));
        }
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let profile = example::two_threads().finish(Recording::default());
        let failure = save(&profile, "/no/such/folder/x.pstats", &Litter::default()).unwrap_err();
        assert!(failure.to_string().contains("/no/such/folder"));
        let empty = example::empty().finish(Recording::default());
        assert!(save(&empty, "x.pstats", &Litter::default()).is_err());
    }
}
