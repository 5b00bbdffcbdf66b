//! How a block of elements becomes bytes, and these become elements again: a formula each.

/// As bfloat16.
const INFINITY: u16 = 0x7f80;

pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Rounding could make an infinity of it.
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = (bits >> 16) & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The largest magnitude; not finite where an element is not. Magnitudes are ordered as their bits are.
pub(super) fn largest(block: &[f32]) -> f32 {
    const SIGN: u32 = 1 << 31;
    let magnitudes = block.iter().map(|value| value.to_bits() & !SIGN);
    f32::from_bits(magnitudes.fold(0, u32::max))
}

/// The integer nearest to a value below 2²² in magnitude, ties to even, in the lowest bits: added to 1.5 · 2²³, a
/// value loses its fraction.
fn nearest(value: f32) -> u32 {
    const LAST_BIT_IS_ONE: f32 = 12_582_912.0;
    (value + LAST_BIT_IS_ONE).to_bits()
}

/// What elements of a block with this scale are multiplied by to be integers up to `most`; none where all are zero,
/// or as good as zero, or not finite.
fn to_integers(scale: f32, most: f32) -> Option<f32> {
    let factor = most / scale;
    (factor.is_finite() && scale.is_finite()).then_some(factor)
}

pub(super) fn int8((out, block): (&mut [u8], &[f32])) {
    let (head, quantized) = out.split_at_mut(size_of::<f32>());
    let scale = largest(block);
    let factor = to_integers(scale, 127.0);
    if let Some(factor) = factor {
        for (byte, value) in quantized.iter_mut().zip(block) {
            *byte = nearest(value * factor) as u8;
        }
    }
    if factor.is_some() || !scale.is_finite() {
        head.copy_from_slice(&scale.to_le_bytes());
    }
}

pub(super) fn of_int8((bytes, into): (&[u8], &mut [f32])) {
    let (scale, quantized) = bytes.split_first_chunk().expect("a block has a scale");
    let step = f32::from_le_bytes(*scale) / 127.0;
    for (value, &byte) in into.iter_mut().zip(quantized) {
        *value = f32::from(byte.cast_signed()) * step;
    }
}

pub(super) fn int4((out, block): (&mut [u8], &[f32])) {
    let (head, quantized) = out.split_at_mut(size_of::<u16>());
    let largest = largest(block);
    // A NaN may become an infinity: neither is finite.
    let scale = (u64::from(largest.to_bits()) + 0xffff) >> 16;
    let scale = (scale as u16).min(INFINITY);
    let factor = to_integers(from_bf16(scale), 7.0);
    if let Some(factor) = factor {
        let half = |value: f32| nearest(value * factor) as u8 & 0xf;
        let (pairs, last) = block.as_chunks();
        for (byte, [low, high]) in quantized.iter_mut().zip(pairs) {
            *byte = half(*low) | half(*high) << 4;
        }
        if let ([value], Some(byte)) = (last, quantized.last_mut()) {
            *byte = half(*value);
        }
    }
    if factor.is_some() || scale == INFINITY {
        head.copy_from_slice(&scale.to_le_bytes());
    }
}

pub(super) fn of_int4((bytes, into): (&[u8], &mut [f32])) {
    let (scale, quantized) = bytes.split_first_chunk().expect("a block has a scale");
    let step = from_bf16(u16::from_le_bytes(*scale)) / 7.0;
    let half = |shifted: u8| f32::from(shifted.cast_signed() >> 4) * step;
    let (pairs, last) = into.as_chunks_mut();
    for ([low, high], &byte) in pairs.iter_mut().zip(quantized) {
        (*low, *high) = (half(byte << 4), half(byte));
    }
    if let ([value], Some(&byte)) = (last, quantized.last()) {
        *value = half(byte << 4);
    }
}

/// 2 to the power of k / 8: what magnitudes in the logarithmic scale are, but for a power of two.
const EIGHTHS: [f32; 8] = [
    f32::from_bits(0x3f80_0000),
    f32::from_bits(0x3f8b_95c2),
    f32::from_bits(0x3f98_37f0),
    f32::from_bits(0x3fa5_fed7),
    f32::from_bits(0x3fb5_04f3),
    f32::from_bits(0x3fc5_672a),
    f32::from_bits(0x3fd7_44fd),
    f32::from_bits(0x3fea_c0c7),
];

/// 2 to the power of (k - 1/2) / 8, for k from 1 to 8: from there on a fraction is nearer to the next eighth.
const BETWEEN_EIGHTHS: [f32; 8] = [
    f32::from_bits(0x3f85_aac3),
    f32::from_bits(0x3f91_c3d3),
    f32::from_bits(0x3f9e_f532),
    f32::from_bits(0x3fad_583f),
    f32::from_bits(0x3fbd_08a4),
    f32::from_bits(0x3fce_248c),
    f32::from_bits(0x3fe0_ccdf),
    f32::from_bits(0x3ff5_257d),
];

/// The exponent of 1 as f32 has it, and the bits below.
const ONE: i32 = 127;
const FRACTION: u32 = 23;

pub(super) fn log8((out, block): (&mut [u8], &[f32])) {
    let (head, quantized) = out.split_at_mut(size_of::<f32>());
    let scale = largest(block);
    if scale.is_finite() {
        for (byte, value) in quantized.iter_mut().zip(block) {
            *byte = eighths(value / scale);
        }
    }
    head.copy_from_slice(&scale.to_le_bytes());
}

/// The nearest of 255 eighths of octaves below 1, of which the last is 255; 0 for what is not above zero.
fn eighths(share: f32) -> u8 {
    if share.is_nan() || share <= 0.0 {
        return 0;
    }
    let bits = share.to_bits();
    let octave = (bits >> FRACTION).cast_signed() - ONE;
    let fraction = f32::from_bits(bits & ((1 << FRACTION) - 1) | ONE.cast_unsigned() << FRACTION);
    let above = BETWEEN_EIGHTHS.map(|at| i32::from(fraction >= at));
    (8 * octave + above.iter().sum::<i32>() + 255).clamp(1, 255) as u8
}

pub(super) fn of_log8((bytes, into): (&[u8], &mut [f32])) {
    let (scale, quantized) = bytes.split_first_chunk().expect("a block has a scale");
    let scale = f32::from_le_bytes(*scale);
    for (value, &byte) in into.iter_mut().zip(quantized) {
        let below = i32::from(byte) - 255;
        let octave = (ONE + below.div_euclid(8)).cast_unsigned() << FRACTION;
        let share = EIGHTHS[below.rem_euclid(8) as usize] * f32::from_bits(octave);
        *value = match byte {
            0 if scale.is_finite() => 0.0,
            _ => scale * share,
        };
    }
}
