//! How values travel: as they are, or in fewer bytes.
//!
//! `none` and `bf16` are functions of each element alone. `int8` and `int4` scale a block of elements by the largest
//! of them: blocks begin with each tensor, and with each row of a table of which single rows travel, so it does not
//! matter how what travels is cut into messages. What a codec leaves out is not lost: whoever encodes adds it to what
//! it encodes next (error feedback; Seide et al. 2014, Karimireddy et al. 2019).
//!
//! Every step of a formula is one rounded operation of IEEE 754, so the bytes are the same on every instruction set.

mod blocks;

use serde::{Deserialize, Serialize};

use blocks::{from_bf16, int4, int8, log8, of_int4, of_int8, of_log8, to_bf16};

/// How elements become bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// As they are: little-endian f32
    #[default]
    None,
    /// The upper half of each f32, rounded to the nearest, ties to even (bfloat16)
    Bf16,
    /// Blocks of up to 256 elements: the largest magnitude `s` as f32, then for each `x` a signed byte, `x · (127 / s)` rounded to the
    /// nearest, ties to even. A byte `q` is read as `q · (s / 127)`
    Int8,
    /// Blocks of up to 64 elements: the largest magnitude as bfloat16, rounded up to `s`, then for each `x` four bits, `x · (7 / s)`
    /// rounded to the nearest, ties to even, in two's complement, the first of two in the lower half of a byte. They are read as `q · (s / 7)`
    Int4,
    /// What optimizers keep, of which no element is below zero; gradients and parameters never travel so. Blocks of up to 256
    /// elements: the largest one `s` as f32, then for each `x` a byte: 0 for 0, else `8 · log₂(x / s)` rounded to the nearest, and 255,
    /// at least 1. A byte `u` is read as `s · 2^((u − 255) / 8)`
    #[cfg_attr(feature = "clap", clap(skip))]
    Log8,
}

/// How values travel between the server and workers elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codecs {
    /// What workers push.
    pub push: Codec,
    /// What they pull: parameters, or what is to be added to those that a worker has where the codec has blocks.
    pub pull: Codec,
}

impl Codec {
    /// All that there are.
    pub const ALL: [Self; 5] = [Self::None, Self::Bf16, Self::Int8, Self::Int4, Self::Log8];

    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Log8 => "log8",
        }
    }

    /// Its number on the wire.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The codec of that number, if there is one.
    pub fn of_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// Elements of a whole block.
    pub fn block(self) -> usize {
        match self {
            Self::None | Self::Bf16 => 1,
            Self::Int8 | Self::Log8 => 256,
            Self::Int4 => 64,
        }
    }

    /// Bytes of so many elements; the last block may not be whole.
    pub fn bytes(self, elements: usize) -> usize {
        let blocks = elements.div_ceil(self.block());
        match self {
            Self::None => 4 * elements,
            Self::Bf16 => 2 * elements,
            Self::Int8 | Self::Log8 => 4 * blocks + elements,
            Self::Int4 => 2 * blocks + elements.div_ceil(2),
        }
    }

    /// Whether an element's bytes depend on others, so that parameters do not travel in it but what is new to them does.
    pub fn has_blocks(self) -> bool {
        self.block() > 1
    }

    /// Adds the bytes of these elements, of which the first begins a block.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.bytes(values.len()), 0);
        let out = &mut out[start..];
        match self {
            Self::None => out.copy_from_slice(bytemuck::cast_slice(values)),
            Self::Bf16 => {
                for (bytes, &value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *bytes = to_bf16(value).to_le_bytes();
                }
            }
            Self::Int8 => {
                let blocks = out.chunks_mut(self.bytes(self.block()));
                blocks.zip(values.chunks(self.block())).for_each(int8);
            }
            Self::Int4 => {
                let blocks = out.chunks_mut(self.bytes(self.block()));
                blocks.zip(values.chunks(self.block())).for_each(int4);
            }
            Self::Log8 => {
                let blocks = out.chunks_mut(self.bytes(self.block()));
                blocks.zip(values.chunks(self.block())).for_each(log8);
            }
        }
    }

    /// Elements from their bytes, of which the first begins a block. Any bytes are some elements; where an element
    /// of a block was not finite, none of it is.
    ///
    /// # Panics
    /// When there are not as many bytes as these elements have.
    pub fn decode(self, bytes: &[u8], into: &mut [f32]) {
        assert_eq!(bytes.len(), self.bytes(into.len()), "bytes of elements");
        match self {
            Self::None => bytemuck::cast_slice_mut(into).copy_from_slice(bytes),
            Self::Bf16 => {
                for (value, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
                    *value = from_bf16(u16::from_le_bytes(*bytes));
                }
            }
            Self::Int8 => {
                let blocks = bytes.chunks(self.bytes(self.block()));
                blocks.zip(into.chunks_mut(self.block())).for_each(of_int8);
            }
            Self::Int4 => {
                let blocks = bytes.chunks(self.bytes(self.block()));
                blocks.zip(into.chunks_mut(self.block())).for_each(of_int4);
            }
            Self::Log8 => {
                let blocks = bytes.chunks(self.bytes(self.block()));
                blocks.zip(into.chunks_mut(self.block())).for_each(of_log8);
            }
        }
    }

    /// Makes values, of which the first begins a block, what comes of them on the way.
    pub fn round(self, values: &mut [f32]) {
        let mut bytes = Vec::with_capacity(self.bytes(values.len()));
        self.encode(values, &mut bytes);
        self.decode(&bytes, values);
    }
}

#[cfg(test)]
mod tests {
    use super::blocks::largest;
    use super::*;

    fn there_and_back(codec: Codec, values: &[f32]) -> Vec<f32> {
        let mut bytes = vec![7];
        codec.encode(values, &mut bytes);
        assert_eq!(bytes.len(), 1 + codec.bytes(values.len()));
        let mut back = vec![1.0; values.len()];
        codec.decode(&bytes[1..], &mut back);
        back
    }

    /// Any bits at all.
    fn any_bits(count: u32) -> Vec<f32> {
        let bits = (0..count).map(|k| k.wrapping_mul(0x9e37_79b9));
        bits.map(f32::from_bits).collect()
    }

    #[test]
    fn bf16_is_rounded_to_nearest_even() {
        for (value, wanted) in [
            (0x3f80_0000, 0x3f80_0000),
            // Below a half, a half that goes down to even, a half that goes up to even, above a half.
            (0x3f80_7fff, 0x3f80_0000),
            (0x3f80_8000, 0x3f80_0000),
            (0x3f81_8000, 0x3f82_0000),
            (0x3f80_8001, 0x3f81_0000),
            // −0, infinities, the smallest subnormals, what is beyond the largest.
            (0x8000_0000, 0x8000_0000),
            (0x7f80_0000, 0x7f80_0000),
            (0xff80_0000, 0xff80_0000),
            (0x0000_0001, 0x0000_0000),
            (0x0001_0000, 0x0001_0000),
            (0x0000_ffff, 0x0001_0000),
            (0x7f7f_ffff, 0x7f80_0000),
        ] {
            let back = there_and_back(Codec::Bf16, &[f32::from_bits(value)]);
            assert_eq!(back[0].to_bits(), wanted, "{value:08x}");
        }
        for nan in [0x7f80_0001, 0xff80_0001, 0x7fff_ffff] {
            let back = there_and_back(Codec::Bf16, &[f32::from_bits(nan)])[0];
            assert!(back.is_nan());
            assert_eq!(back.to_bits() >> 31, nan >> 31);
        }
    }

    #[test]
    fn what_has_been_there_goes_there_unchanged_where_each_element_stands_alone() {
        for codec in [Codec::None, Codec::Bf16] {
            let values = any_bits(100_000);
            let once = there_and_back(codec, &values);
            let twice = there_and_back(codec, &once);
            assert!(
                once.iter()
                    .zip(&twice)
                    .all(|(a, b)| a.to_bits() == b.to_bits())
            );
            for (value, back) in values.iter().zip(&once) {
                let error = (value - back).abs();
                let ordinary = value.is_normal() && back.is_finite();
                assert!(!ordinary || error <= value.abs() / 256.0, "{value} {back}");
            }
        }
    }

    #[test]
    fn numbers_are_of_one_codec() {
        for codec in Codec::ALL {
            assert_eq!(Codec::of_id(codec.id()), Some(codec));
        }
        assert_eq!(Codec::of_id(5), None);
    }

    /// Half a step of its block at most.
    #[test]
    fn blocks_lose_little() {
        for (codec, most) in [(Codec::Int8, 127.0), (Codec::Int4, 7.0)] {
            for len in [1u16, 2, 63, 64, 65, 255, 256, 257, 1000] {
                let value = |k: u16| (f32::from(k) * 1.7).sin() * 10f32.powi(i32::from(k % 9) - 6);
                let values: Vec<_> = (0..len).map(value).collect();
                let back = there_and_back(codec, &values);
                let blocks = values.chunks(codec.block()).zip(back.chunks(codec.block()));
                for (values, back) in blocks {
                    // The scale of int4 is rounded up by less than 1 in 128.
                    let step = largest(values) * (1.0 + 1.0 / 128.0) / most;
                    for (value, back) in values.iter().zip(back) {
                        let error = (value - back).abs();
                        assert!(error <= 0.5001 * step, "{codec:?} {value} {back}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_of_zeros_is_zeros_and_one_that_is_not_finite_is_not() {
        for codec in [Codec::Int8, Codec::Int4, Codec::Log8] {
            // What integers cannot scale is as good as zero.
            let tiny = f32::from_bits(u32::from(codec != Codec::Log8));
            let zeros = there_and_back(codec, &[0.0, -0.0, tiny]);
            assert!(zeros.iter().all(|zero| zero.abs() <= 0.0), "{codec:?}");
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.5; codec.block() + 3];
                values[2] = bad;
                let back = there_and_back(codec, &values);
                let (first, second) = back.split_at(codec.block());
                assert!(
                    first.iter().all(|value| !value.is_finite()),
                    "{codec:?} {bad}"
                );
                assert!(
                    second
                        .iter()
                        .all(|value| value.to_bits() == 0.5f32.to_bits()),
                    "{codec:?} {bad}"
                );
            }
        }
    }

    /// The bytes that the formulas give where another program computes them (in Python, in f64 rounded to f32 after
    /// each operation), by their hash: FNV-1a.
    #[test]
    fn bytes_are_those_of_the_formulas() {
        let value = |k: u32| {
            let uniform = f64::from(k.wrapping_mul(2_654_435_761)) / 4_294_967_296.0 - 0.5;
            uniform as f32 * 2f32.powi((k % 7).cast_signed() - 3)
        };
        let values: Vec<_> = (0..299).map(value).collect();
        let magnitudes: Vec<_> = values.iter().map(|value| value.abs()).collect();
        for (codec, values, wanted) in [
            (Codec::Bf16, &values, 0x6dcc_c479_1a71_2be6),
            (Codec::Int8, &values, 0xed38_766a_bace_845c),
            (Codec::Int4, &values, 0x6854_9331_cec5_48ab),
            (Codec::Log8, &magnitudes, 0xbf89_abb0_816c_94e3),
        ] {
            let mut bytes = Vec::new();
            codec.encode(values, &mut bytes);
            let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            assert_eq!(hash, wanted, "{codec:?} {:02x?}", &bytes[..24]);
        }
    }

    /// What is above zero stays so, and is off by a sixteenth of an octave at most, down to 2⁻³¹ of the largest.
    #[test]
    fn logarithms_keep_what_is_small() {
        let value = |k: u16| 3.7f32 * 0.93f32.powi(i32::from(k));
        let mut values: Vec<_> = (0..280).map(value).collect();
        values[9] = 0.0;
        let back = there_and_back(Codec::Log8, &values);
        for (value, back) in values.iter().zip(&back) {
            let off = (back / value).log2().abs();
            assert!(
                back.to_bits() == value.to_bits() || off <= 1.001 / 16.0,
                "{value} {back}"
            );
        }
        let tiny = there_and_back(Codec::Log8, &[1.0, 1e-30, f32::from_bits(1), 0.0, -1.0]);
        let least = 2f32.powf(-254.0 / 8.0);
        assert!((tiny[1] / least - 1.0).abs() < 1e-6, "{tiny:?}");
        assert_eq!(tiny, [1.0, tiny[1], tiny[1], 0.0, 0.0]);
    }

    /// Cut at blocks, the bytes are the same.
    #[test]
    fn what_is_cut_at_blocks_has_the_same_bytes() {
        let values = any_bits(1_000);
        for codec in Codec::ALL {
            let (mut whole, mut cut) = (Vec::new(), Vec::new());
            codec.encode(&values, &mut whole);
            for piece in values.chunks(3 * codec.block()) {
                codec.encode(piece, &mut cut);
            }
            assert!(whole == cut, "{codec:?}");
        }
    }
}
