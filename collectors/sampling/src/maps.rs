//! The programs and libraries that a process has mapped, from `/proc/PID/maps`.
//!
//! The crate `proc-maps` was the other way: it refuses the whole file when one path in it is not UTF-8.

/// What tells a file from another: device and inode.
pub(crate) type FileId = (Vec<u8>, u64);

/// A file of which a part is mapped as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedImage {
    /// Where its first byte is mapped.
    pub(crate) base: u64,
    pub(crate) file: FileId,
    /// As the kernel writes it: a newline is `\012`, and a file that was removed ends in ` (deleted)`.
    pub(crate) path: Vec<u8>,
}

impl MappedImage {
    /// Whether the name of the file, not its folders, contains `word`.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let name = self
            .path
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        name.windows(word.len()).any(|part| part == word.as_bytes())
    }
}

struct Line<'a> {
    start: u64,
    executable: bool,
    offset: u64,
    device: &'a [u8],
    inode: u64,
    path: &'a [u8],
}

/// The images in a `maps` file, in the order of their addresses.
///
/// A data file that is merely mapped is none. A file that is mapped several times appears as often.
pub(crate) fn images(maps: &[u8]) -> Vec<MappedImage> {
    let lines: Vec<Line<'_>> = maps
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect();
    let same_file = |a: &Line<'_>, b: &Line<'_>| a.inode == b.inode && a.device == b.device;
    let mut images = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if line.offset != 0 || line.inode == 0 {
            continue;
        }
        // The parts of an image follow each other; between them there may be memory without a file.
        let parts = lines[index..]
            .iter()
            .take_while(|part| part.inode == 0 || same_file(part, line));
        if parts
            .into_iter()
            .any(|part| part.executable && same_file(part, line))
        {
            images.push(MappedImage {
                base: line.start,
                file: (line.device.to_vec(), line.inode),
                path: line.path.to_vec(),
            });
        }
    }
    images
}

/// `start-end perms offset dev inode path`, as `show_map_vma` writes it (`fs/proc/task_mmu.c`).
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (start, _end) = text()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let executable = text()?.as_bytes().get(2) == Some(&b'x');
    let offset = u64::from_str_radix(text()?, 16).ok()?;
    let device = text()?.as_bytes();
    let inode = text()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    Some(Line {
        start,
        executable,
        offset,
        device,
        inode,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
00400000-00420000 r--p 00000000 fe:00 11                         /usr/bin/python3.11
00420000-006c9000 r-xp 00020000 fe:00 11                         /usr/bin/python3.11
00b3f000-00b6d000 rw-p 00000000 00:00 0 \n\
0115e000-01240000 rw-p 00000000 00:00 0                          [heap]
7f00a0000000-7f00a0300000 r--p 00000000 fe:00 12                 /usr/lib/locale/locale archive
7f00a1000000-7f00a1022000 r--p 00000000 fe:01 11                 /opt/li\xffb/libx.so (deleted)
7f00a1022000-7f00a1100000 ---p 00022000 fe:01 11                 /opt/li\xffb/libx.so (deleted)
7f00a1100000-7f00a1110000 rw-p 00000000 00:00 0 \n\
7f00a1110000-7f00a1120000 r-xp 00110000 fe:01 11                 /opt/li\xffb/libx.so (deleted)
7ffc10000000-7ffc10021000 rw-p 00000000 00:00 0                  [stack]
7ffc10177000-7ffc10179000 r-xp 00000000 00:00 0                  [vdso]
";

    #[test]
    fn images_are_files_with_code() {
        let found = images(MAPS);
        let facts: Vec<_> = found
            .iter()
            .map(|image| (image.base, image.file.1))
            .collect();
        assert_eq!(facts, [(0x40_0000, 11), (0x7f00_a100_0000, 11)]);
        assert_ne!(found[0].file, found[1].file);
        assert_eq!(found[1].path, b"/opt/li\xffb/libx.so (deleted)");
    }

    #[test]
    fn only_the_name_of_the_file_counts() {
        let image = |path: &str| MappedImage {
            base: 0,
            file: (Vec::new(), 1),
            path: path.into(),
        };
        assert!(image("/usr/bin/python3.11").is_called("python"));
        assert!(!image("/opt/python/bin/ruby").is_called("python"));
        assert!(!image("").is_called("python"));
    }

    #[test]
    fn our_own_program_is_among_our_images() {
        let found = images(&std::fs::read("/proc/self/maps").unwrap());
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap().as_bytes();
        assert_eq!(found.iter().filter(|image| image.path == own).count(), 1);
    }

    #[test]
    fn anything_else_is_no_line() {
        assert!(images(b"").is_empty());
        assert!(images(b"\xff\n\nx-y r-xp\n12-13 r-xp 0 0 q\n").is_empty());
    }
}
