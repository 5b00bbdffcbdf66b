//! Any sequence of messages at all, into the decoder: never a panic, and what is accepted is what
//! was said. `cargo +nightly fuzz run transfer` in the root of the repository.
//!
//! The input's first byte says what it is: a push or a pull, and whether its checksums are made
//! right first, because no fuzzer finds a checksum. The rest is messages, each after its length.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;

#[path = "../../crates/dsgd/tests/support/transfer.rs"]
mod transfer;

/// As many of the messages as can be read.
fn messages<M: Message + Default>(mut bytes: Bytes) -> Vec<M> {
    let mut messages = Vec::new();
    while !bytes.is_empty()
        && let Ok(message) = M::decode_length_delimited(&mut bytes)
    {
        messages.push(message);
    }
    messages
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let layout = transfer::layout();
    let rest = Bytes::copy_from_slice(rest);
    if kind & 1 == 0 {
        let mut parts = messages(rest);
        if kind & 2 != 0 {
            transfer::mend(&mut parts);
        }
        transfer::push(&layout, &parts);
    } else {
        transfer::pull(&layout, &messages(rest));
    }
});
