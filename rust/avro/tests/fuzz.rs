//! What the fuzzers do, on random bytes and on all that they kept.

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Runs a fuzzer's function on its corpus and on what once made it fail.
fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut runs = 0;
    for kept in ["corpus", "regressions"] {
        // Not every target has failed.
        let Ok(entries) = fs::read_dir(dir.join(kept).join(target)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            runs += 1;
        }
    }
    assert!(runs > 10, "{runs} inputs of {target}");
}

#[test]
fn decode_corpus() {
    replay("decode", fuzz::decode::run);
}

#[test]
fn encode_corpus() {
    replay("encode", fuzz::encode::run);
}

#[test]
fn schema_corpus() {
    replay("schema", fuzz::schema::run);
}

proptest! {
    // The same in every run; it is the fuzzers that look further.
    #![proptest_config(ProptestConfig {
        cases: 20000,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decode(data in vec(any::<u8>(), 0..300)) {
        fuzz::decode::run(&data);
    }

    #[test]
    fn encode(data in vec(any::<u8>(), 0..3000)) {
        fuzz::encode::run(&data);
    }

    #[test]
    fn schema(data in vec(any::<u8>(), 0..100), base in b'0'..b'<') {
        fuzz::schema::run(&[&[base][..], &data].concat());
    }
}
