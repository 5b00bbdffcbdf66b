//! How parameters or a gradient can be wrong.

/// How parameters or a gradient can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the words say.
pub enum WireError {
    #[error("tensor {got} at byte {offset} came where tensor {tensor} at byte {at} was due")]
    OutOfOrder {
        tensor: usize,
        at: usize,
        got: u32,
        offset: u64,
    },
    #[error("{bytes} bytes in one message, more than {most}")]
    TooLarge { bytes: usize, most: usize },
    #[error("tensor {name}: {bytes} bytes are no whole number of elements")]
    Broken { name: String, bytes: usize },
    #[error("tensor {name}: more than its {len} elements")]
    TooLong { name: String, len: usize },
    #[error("tensor {name}: a message without contents")]
    Empty { name: String },
    #[error("tensor {name} is {wanted}, but was sent as {got}")]
    Kind {
        name: String,
        wanted: &'static str,
        got: &'static str,
    },
    #[error("tensor {name}: {values} bytes of values for {rows} rows of {width} elements")]
    RowsMismatch {
        name: String,
        rows: usize,
        width: usize,
        values: usize,
    },
    #[error("tensor {name}: row {row} of a table of {rows}")]
    NoSuchRow { name: String, row: u32, rows: usize },
    #[error("tensor {name}: row {row} came twice")]
    RowTwice { name: String, row: u32 },
    #[error("tensor {name}: row {row} came after a later one")]
    RowOrder { name: String, row: u32 },
    #[error("{got} bytes say what is new of {tensors} tensors")]
    Fresh { got: usize, tensors: usize },
    #[error("tensor {name}: {byte} says nothing about what is new of it")]
    NoFresh { name: String, byte: u8 },
    #[error("tensor {name}: its checksum came before its end")]
    EarlyChecksum { name: String },
    #[error("tensor {name}: its end came without its checksum")]
    NoChecksum { name: String },
    #[error("tensor {name} was damaged on the way: checksum {got:08x}, not {wanted:08x}")]
    Checksum { name: String, got: u32, wanted: u32 },
    #[error("ended before tensor {name}, element {at}")]
    Incomplete { name: String, at: usize },
    #[error("went on after the last tensor")]
    LeftOver,
}
