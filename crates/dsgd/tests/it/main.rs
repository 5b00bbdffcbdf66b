//! Tests of the library as a whole.

mod random;
mod stories;
