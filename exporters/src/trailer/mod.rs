//! pystrobe's own part of a pstats file: the whole profile, behind the table.
//!
//! ```text
//! "pystrobe<" payload length:u64 version:u32 ">pystrobe"     (numbers little-endian)
//! ```
//!
//! The payload is JSON in columns, compressed with zstd, whose checksum guards it. Both marks
//! are there so that a file that was cut short is told from one of another tool. Versions only
//! ever get added: a newer pystrobe reads every older one.
//!
//! Version 2 added the clocks. What version 1 says is wall time. Version 3 added what is counted. Before it all counts
//! were samples.

mod content;

use std::io::{self, BufReader, Read, Write};

use pystrobe_profile::{BatchError, NotMeasured, Profile};

use content::Content;

const START: &[u8; 9] = b"pystrobe<";
const END: &[u8; 9] = b">pystrobe";

/// The version that is written.
const VERSION: u32 = 3;

/// The most that a payload may unpack to. A node takes 12 bytes to 50,
/// depending on how many clocks were measured.
const MAX_UNPACKED: u64 = 1 << 30;

/// zstd's own default; higher levels gain little on numbers.
const COMPRESSION_LEVEL: i32 = 3;

/// Why a trailer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrailerError {
    #[error("pystrobe's part of the file is cut short or damaged")]
    Damaged,
    #[error("pystrobe's part of the file is damaged: {0}")]
    Payload(#[from] io::Error),
    #[error("pystrobe's part of the file is damaged: {0}")]
    Json(#[from] serde_json::Error),
    #[error("pystrobe's part of the file is damaged: {0}")]
    Reference(#[from] BatchError),
    #[error("pystrobe's part of the file is damaged: {0}")]
    Clock(#[from] NotMeasured),
    #[error(
        "pystrobe's part of the file was written by a newer pystrobe (version {0}, this one knows {VERSION})"
    )]
    Version(u32),
}

/// Writes the trailer.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(START)?;
    let mut counted = Counted { out, len: 0 };
    let mut encoder = zstd::Encoder::new(&mut counted, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut buffered = io::BufWriter::new(encoder);
    serde_json::to_writer(&mut buffered, &Content::of(profile)).map_err(io::Error::from)?;
    buffered.into_inner().map_err(io::Error::from)?.finish()?;
    let len = counted.len;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(END)
}

/// Counts what goes through.
struct Counted<'w> {
    out: &'w mut dyn Write,
    len: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads what follows the table: a profile, or nothing when there is nothing of ours.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Profile>, TrailerError> {
    let (starts, ends) = (bytes.starts_with(START), bytes.ends_with(END));
    if !starts && !ends {
        return Ok(None);
    }
    let inner = bytes
        .get(START.len()..bytes.len() - END.len())
        .filter(|_| starts && ends)
        .ok_or(TrailerError::Damaged)?;
    let (payload, version) = inner.split_last_chunk().ok_or(TrailerError::Damaged)?;
    let (payload, len) = payload.split_last_chunk().ok_or(TrailerError::Damaged)?;
    match u32::from_le_bytes(*version) {
        1..=VERSION => {}
        version => return Err(TrailerError::Version(version)),
    }
    if u64::from_le_bytes(*len) != payload.len() as u64 {
        return Err(TrailerError::Damaged);
    }
    unpack(payload, MAX_UNPACKED)?.into_profile().map(Some)
}

/// The payload, of which no more than so many bytes are unpacked.
fn unpack(payload: &[u8], limit: u64) -> Result<Content<'static>, TrailerError> {
    let mut decoder = zstd::Decoder::with_buffer(payload)?.single_frame();
    let mut unpacked = (&mut decoder).take(limit + 1);
    let content = serde_json::from_reader(BufReader::new(&mut unpacked))?;
    if unpacked.limit() == 0 {
        return Err(TrailerError::Damaged);
    }
    // With another frame header, zstd could take the checksum for something that follows.
    if !decoder.finish().is_empty() {
        return Err(TrailerError::Damaged);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use pystrobe_profile::{Builder, Recording};

    use super::*;

    #[test]
    fn a_payload_that_unpacks_to_very_much() {
        let profile = Builder::new(Vec::new()).finish(Recording::default());
        let content = Content::of(&profile);
        let mut json = serde_json::to_vec(&content).unwrap();
        json.resize(1 << 20, b' ');
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        assert!(packed.len() < 1000);
        assert!(unpack(&packed, 1 << 20).is_ok());
        json.insert(0, b' ');
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        assert!(matches!(
            unpack(&packed, 1 << 20),
            Err(TrailerError::Damaged)
        ));
        let Err(error) = unpack(&packed, 100) else {
            panic!("read beyond the limit")
        };
        assert!(error.to_string().contains("EOF"), "{error}");
    }
}
