//! How a file's bytes are packed on their way, and how hard.
//!
//! Of the host we ask for nothing, so it is gzip, which nearly every system has, be it of busybox; where
//! there is none, bytes travel as they are. Each piece is a gzip member of its own: they may follow each
//! other, and what has arrived of them is what can be gone on with. How hard a piece is packed is decided
//! piece by piece: on a slow connection bytes are dear, on a fast one time is, and some files do not get
//! smaller at all.

use std::io::{self, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of a file that are packed at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Levels that are chosen from, with what is expected of them before they were tried: bytes that they
/// pack in a second, and how many bytes one becomes.
const LEVELS: [(u32, f64, f64); 3] = [(0, 1e9, 1.0), (1, 1e8, 0.5), (6, 3e7, 0.4)];

/// After so many pieces it is tried anew whether those that follow are of another kind.
const FORGET_EVERY: u64 = 64;

/// A file of which this share is left is not worth packing.
const HARDLY_SMALLER: f64 = 0.95;

/// What is known of a connection and of what goes through it.
#[derive(Debug)]
pub(super) struct Packing {
    /// Of each level, bytes that it packs in a second and how many bytes one becomes.
    levels: [(f64, f64); LEVELS.len()],
    /// Bytes that get there in a second, once that is known.
    connection: Option<f64>,
    pieces: u64,
    /// Bytes of the file that were packed, and what they became.
    so_far: (u64, u64),
}

impl Packing {
    pub(super) fn new() -> Self {
        Self {
            levels: LEVELS.map(|(_, speed, ratio)| (speed, ratio)),
            connection: None,
            pieces: 0,
            so_far: (0, 0),
        }
    }

    /// Which of the levels gets the next piece there soonest.
    pub(super) fn choose(&self) -> usize {
        let Some(connection) = self.connection else {
            // Nothing has been heard of the other end: what costs little and gains most of it.
            return usize::from(self.levels[1].1 < HARDLY_SMALLER);
        };
        let secs = |&(speed, ratio): &(f64, f64)| 1.0 / speed + ratio / connection;
        let times = self.levels.iter().map(secs).enumerate();
        let best = times.min_by(|(_, one), (_, other)| one.total_cmp(other));
        best.map_or(0, |(level, _)| level)
    }

    /// A piece was packed.
    pub(super) fn packed(&mut self, level: usize, bytes: usize, became: usize, took: Duration) {
        self.pieces += 1;
        if self.pieces.is_multiple_of(FORGET_EVERY) {
            self.levels = Self::new().levels;
        }
        self.so_far.0 += bytes as u64;
        self.so_far.1 += became as u64;
        let bytes = bytes.max(1) as f64;
        let speed = bytes / took.as_secs_f64().max(1e-6);
        self.levels[level] = (speed, became as f64 / bytes);
    }

    /// So many bytes of the file have arrived. That, and not how fast they were taken from us: buffers on
    /// the way take megabytes in no time.
    pub(super) fn arrived(&mut self, bytes: u64, took: Duration) {
        let (packed, became) = self.so_far;
        let share = became as f64 / packed.max(1) as f64;
        let speed = bytes as f64 * share / took.as_secs_f64().max(1e-6);
        self.connection = Some(speed.max(1.0));
    }

    /// Bytes that went over the wire.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.so_far.1
    }
}

/// A piece as a gzip member.
pub(super) fn pack(piece: &[u8], level: usize) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVELS[level].0));
    encoder.write_all(piece)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection of so many bytes a second.
    fn over(connection: usize) -> Packing {
        let mut packing = Packing::new();
        packing.packed(0, connection, connection, Duration::from_micros(1));
        packing.arrived(connection as u64, SECOND);
        packing
    }

    #[test]
    fn a_slow_connection_is_worth_the_time_that_packing_takes() {
        // 2 Mbit/s, 300 Mbit/s, 10 Gbit/s.
        assert_eq!(over(250_000).choose(), 2);
        assert_eq!(over(37_500_000).choose(), 1);
        assert_eq!(over(1_250_000_000).choose(), 0);
    }

    #[test]
    fn what_gets_no_smaller_is_not_packed_until_it_is_tried_again() {
        let mut packing = over(250_000);
        for _ in 0..2 {
            let level = packing.choose();
            packing.packed(level, 1000, 1000, Duration::from_millis(1));
        }
        assert_eq!(packing.choose(), 0);
        for _ in 0..FORGET_EVERY - 3 {
            packing.packed(0, 1000, 1000, Duration::from_micros(1));
        }
        assert_eq!(packing.choose(), 2);
    }

    #[test]
    fn as_long_as_nothing_is_known_it_is_packed_lightly_where_that_helps() {
        let mut packing = Packing::new();
        assert_eq!(packing.choose(), 1);
        packing.packed(1, 1000, 990, Duration::from_micros(10));
        assert_eq!(packing.choose(), 0);
    }

    #[test]
    fn packed_pieces_one_after_another_are_the_file() {
        let file: Vec<u8> = (0..1000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let pieces = file.chunks(700).enumerate();
        let packed: Vec<u8> = pieces.flat_map(|(n, p)| pack(p, n % 3).unwrap()).collect();
        let mut back = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(&packed[..]);
        decoder.read_to_end(&mut back).unwrap();
        assert_eq!(back, file);
        assert!(pack(&file, 2).unwrap().len() < file.len() / 2);
    }
}
