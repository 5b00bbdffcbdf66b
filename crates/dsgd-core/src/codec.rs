//! How values travel: as they are, or in fewer bytes.
//!
//! A codec is a function of each element alone, so it does not matter how a tensor is cut, and rows that have
//! not changed need not be sent again. What is left out of an element is at most half a unit in its last place.

use serde::{Deserialize, Serialize};

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
}

impl Codec {
    /// Its number on the wire.
    pub fn id(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bf16 => 1,
        }
    }

    /// The codec of that number, if there is one.
    pub fn of_id(id: u32) -> Option<Self> {
        [Self::None, Self::Bf16]
            .into_iter()
            .find(|codec| codec.id() == id)
    }

    /// Bytes of an element.
    pub fn width(self) -> usize {
        match self {
            Self::None => 4,
            Self::Bf16 => 2,
        }
    }

    /// Adds the bytes of these elements.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(bytemuck::cast_slice(values)),
            Self::Bf16 => out.extend(values.iter().flat_map(|&v| to_bf16(v).to_le_bytes())),
        }
    }

    /// Elements from their bytes.
    ///
    /// # Panics
    /// When there are not as many bytes as these elements have.
    pub fn decode(self, bytes: &[u8], into: &mut [f32]) {
        assert_eq!(bytes.len(), into.len() * self.width(), "bytes of elements");
        match self {
            Self::None => bytemuck::cast_slice_mut(into).copy_from_slice(bytes),
            Self::Bf16 => {
                for (value, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
    }
}

fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Rounding could make an infinity of it.
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = (bits >> 16) & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(codec: Codec, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        codec.encode(values, &mut bytes);
        assert_eq!(bytes.len(), values.len() * codec.width());
        let mut back = vec![1.0; values.len()];
        codec.decode(&bytes, &mut back);
        back
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

    /// What every codec must do.
    #[test]
    fn what_has_been_there_goes_there_unchanged() {
        for codec in [Codec::None, Codec::Bf16] {
            assert_eq!(Codec::of_id(codec.id()), Some(codec));
            let bits = (0..100_000u32).map(|k| k.wrapping_mul(0x9e37_79b9));
            let values: Vec<f32> = bits.map(f32::from_bits).collect();
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
        assert_eq!(Codec::of_id(2), None);
    }
}
