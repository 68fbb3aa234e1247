//! Arbitrary bytes as pstats files, trailer and all. Whatever is read can be written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pystrobe_exporters::{Format, Style, read_pstats, write, write_pstats_table, write_table};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = read_pstats(bytes) else {
        return;
    };
    let mut out = Vec::new();
    write_table(&file.table, file.counted, &Style::default(), &mut out).expect("there are rows");
    out.clear();
    write_pstats_table(&file.table, &mut out).expect("there are rows");
    let again = read_pstats(&out).expect("what is written is read");
    assert_eq!(again.table.rows().len(), file.table.rows().len());
    if let Some(profile) = file.profile.filter(|profile| !profile.is_empty()) {
        for format in Format::ALL {
            write(&profile, format, &Style::default(), &mut Vec::new()).expect("it is not empty");
        }
    }
});
