//! Arbitrary bytes as marshalled values.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pystrobe_exporters::marshal;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = marshal::read(bytes) else {
        return;
    };
    assert!(document.end() <= bytes.len());
    let mut seen = std::collections::HashSet::new();
    let mut rest = vec![document.root()];
    while let Some(value) = rest.pop() {
        assert!(value.offset() < bytes.len());
        if seen.insert(value.id()) {
            rest.extend(value.items());
        }
    }
});
