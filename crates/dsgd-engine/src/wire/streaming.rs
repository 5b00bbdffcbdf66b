//! Copies to where nobody will look soon.
//!
//! An ordinary store reads the cache line that it writes to, and keeps it where something else might
//! have stayed. Parameters are larger than a cache: so what arrives is written past it, in half
//! the time.
#![allow(unsafe_code)]

/// Copies bytes into their place, past the cache where the processor can.
///
/// # Panics
/// When the lengths differ.
#[cfg(target_arch = "x86_64")]
pub(super) fn copy(into: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const LINE: usize = 64;
    assert_eq!(into.len(), from.len(), "a copy is as long as what it is of");
    let head = into.as_ptr().align_offset(LINE).min(into.len());
    let (into_head, into) = into.split_at_mut(head);
    let (from_head, from) = from.split_at(head);
    into_head.copy_from_slice(from_head);
    let (into_lines, into_tail) = into.as_chunks_mut::<LINE>();
    let (from_lines, from_tail) = from.as_chunks::<LINE>();
    into_tail.copy_from_slice(from_tail);
    for (into, from) in into_lines.iter_mut().zip(from_lines) {
        let (into, from) = (into.as_mut_ptr(), from.as_ptr());
        for at in (0..LINE).step_by(size_of::<__m128i>()) {
            // SAFETY: x86-64 has SSE2. Both lines have 64 bytes, so that 16 at `at` are within; the
            // one that is written begins at a multiple of 64, as `head` says.
            unsafe { _mm_stream_si128(into.add(at).cast(), _mm_loadu_si128(from.add(at).cast())) };
        }
    }
    // SAFETY: x86-64 has SSE. Whoever looks at the bytes from here on finds what was written.
    unsafe { _mm_sfence() };
}

/// Copies bytes into their place.
///
/// # Panics
/// When the lengths differ.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn copy(into: &mut [u8], from: &[u8]) {
    into.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[test]
    fn every_place_and_length_is_copied_and_nothing_else() {
        let from: Vec<u8> = (0..=255).cycle().take(400).collect();
        for start in 0..66 {
            for len in [0, 1, 15, 63, 64, 65, 127, 128, 200, 333] {
                let mut into = vec![0xaa; 500];
                copy(&mut into[start..start + len], &from[7..7 + len]);
                assert_eq!(into[start..start + len], from[7..7 + len], "{start} {len}");
                assert!(into[..start].iter().all(|&byte| byte == 0xaa));
                assert!(into[start + len..].iter().all(|&byte| byte == 0xaa));
            }
        }
    }
}
