//! Strings of every kind, in the memory of every interpreter.

use pystrobe_sampling::layout::Layout;
use pystrobe_sampling::memory::{ReadError, RemoteMemory};
use pystrobe_sampling::strings::{read_c_string, read_string};

use crate::layout::layout_of;
use crate::support::interpreters;
use crate::support::target::Target;

#[test]
fn strings_are_read_as_python_has_them() {
    for python in interpreters::all() {
        let layout = layout_of(python);
        let target = Target::start(python, "strings.py");
        let mut read = 0;
        for line in &target.lines {
            let words: Vec<&str> = line.split(' ').collect();
            let address = words[1].parse().unwrap();
            let text = match words[0] {
                "str" => read_string(&target, &layout, address),
                _ => type_name(&target, &layout, address),
            };
            let text = text.unwrap_or_else(|error| panic!("{python}: {error} ({line:.80})"));
            assert_eq!(text, from_hex(words[2]), "{python}");
            read += 1;
        }
        assert_eq!(read, 33, "{python}");
    }
}

fn type_name(target: &Target, layout: &Layout, address: u64) -> Result<String, ReadError> {
    read_c_string(target, target.read_u64(address + layout.object.tp_name)?)
}

fn from_hex(text: &str) -> String {
    let bytes = (0..text.len() / 2)
        .map(|index| u8::from_str_radix(&text[2 * index..][..2], 16).unwrap())
        .collect();
    String::from_utf8(bytes).unwrap()
}
