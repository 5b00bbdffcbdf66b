//! Parameters are flat: one `f32` vector with a table of names, shapes and kinds.
//!
//! The library needs no machine-learning framework for this, and any framework can
//! stand behind a [`Task`](crate::Task). A gradient is kept tensor by tensor,
//! because an embedding table's gradient touches only the rows of the words that
//! occurred: such a tensor holds those rows and nothing else.

use std::ops::Range;
use std::sync::Arc;

/// How the gradient of a tensor looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every element may change in every step.
    Dense,
    /// A table of which a batch touches few rows, such as an embedding.
    Rows,
}

/// Which tensor of a [`Layout`]: its place in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// One named tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in checkpoints, such as `encoder.rnn.0.weight_ih`.
    pub name: String,
    /// Its shape, outermost dimension first (row-major).
    pub shape: Vec<usize>,
    /// Dense, or a table of which few rows are touched.
    pub kind: Kind,
    /// Its place in the flat vector.
    pub range: Range<usize>,
}

impl Tensor {
    /// Elements of one row: the product of all dimensions but the first.
    pub fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// The table of tensors of a model, in the order in which they lie in the flat vector.
///
/// ```
/// let mut layout = dsgd::Layout::new();
/// let table = layout.rows("embedding.weight", 1000, 8);
/// let bias = layout.dense("output.bias", &[1000]);
/// assert_eq!(layout.len(), 9000);
/// assert_eq!(layout.tensor(bias).range, 8000..9000);
/// assert_eq!(layout.find("embedding.weight"), Some(table));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Layout {
    /// An empty layout.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dense tensor.
    pub fn dense(&mut self, name: impl Into<String>, shape: &[usize]) -> TensorId {
        self.add(name.into(), shape.to_vec(), Kind::Dense)
    }

    /// Adds a table of `rows` rows of `width` elements, whose gradient touches few rows.
    pub fn rows(&mut self, name: impl Into<String>, rows: usize, width: usize) -> TensorId {
        self.add(name.into(), vec![rows, width], Kind::Rows)
    }

    fn add(&mut self, name: String, shape: Vec<usize>, kind: Kind) -> TensorId {
        assert!(!shape.is_empty(), "tensor {name} has no dimension");
        assert!(
            self.find(&name).is_none(),
            "tensor {name} is declared twice"
        );
        let start = self.len;
        self.len += shape.iter().product::<usize>();
        self.tensors.push(Tensor {
            name,
            shape,
            kind,
            range: start..self.len,
        });
        TensorId(self.tensors.len() - 1)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// One tensor's entry.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.tensors
            .iter()
            .position(|t| t.name == name)
            .map(TensorId)
    }
}

/// The values of all parameters, with their layout.
#[derive(Clone, Debug)]
pub struct Params {
    layout: Arc<Layout>,
    values: Vec<f32>,
}

impl Params {
    /// All zero.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let values = vec![0.0; layout.len()];
        Self { layout, values }
    }

    /// The table of tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// One tensor's values, row-major.
    pub fn get(&self, id: TensorId) -> &[f32] {
        &self.values[self.layout.tensor(id).range.clone()]
    }

    /// One tensor's values, row-major.
    pub fn get_mut(&mut self, id: TensorId) -> &mut [f32] {
        &mut self.values[self.layout.tensor(id).range.clone()]
    }

    /// All values in the order of the layout.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// All values in the order of the layout.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// The gradient of one batch, in a buffer that is allocated once and reused.
///
/// It starts, and after [`Gradient::clear`] is again, zero everywhere. Memory is
/// that of the dense tensors, and of the most rows that any batch has touched.
#[derive(Clone, Debug)]
pub struct Gradient {
    layout: Arc<Layout>,
    parts: Vec<Part>,
}

/// The gradient of one tensor.
#[derive(Clone, Debug)]
pub enum Part {
    /// Every element, row-major.
    Dense(Vec<f32>),
    /// The touched rows.
    Rows(Rows),
}

/// Touched rows of a table, each once, in the order in which they were first touched.
#[derive(Clone, Debug)]
pub struct Rows {
    width: usize,
    index: Vec<u32>,
    values: Vec<f32>,
    /// For each row of the table its place in `index`, or `UNTOUCHED`.
    slot: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

impl Gradient {
    /// A zero gradient for that layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        let part = |t: &Tensor| match t.kind {
            Kind::Dense => Part::Dense(vec![0.0; t.range.len()]),
            Kind::Rows => Part::Rows(Rows::new(t.shape[0], t.width())),
        };
        let parts = layout.tensors().iter().map(part).collect();
        Self { layout, parts }
    }

    /// The table of tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Makes it zero again, touching only what was written: dense tensors and touched rows.
    pub fn clear(&mut self) {
        for part in &mut self.parts {
            match part {
                Part::Dense(values) => values.fill(0.0),
                Part::Rows(rows) => rows.clear(),
            }
        }
    }

    /// Every tensor's gradient, in the order of the layout.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Every tensor's gradient, in the order of the layout: for kernels that write several at once.
    pub fn parts_mut(&mut self) -> &mut [Part] {
        &mut self.parts
    }

    /// A dense tensor's gradient, row-major, to be added to.
    ///
    /// # Panics
    /// When the tensor was declared with [`Layout::rows`].
    pub fn dense(&mut self, id: TensorId) -> &mut [f32] {
        self.parts[id.0].as_dense()
    }

    /// The gradient of one row of a table, zero when it is first touched, to be added to.
    ///
    /// # Panics
    /// When the tensor was declared with [`Layout::dense`], or has no such row.
    pub fn row(&mut self, id: TensorId, row: usize) -> &mut [f32] {
        self.parts[id.0].as_rows().row(row)
    }

    /// Multiplies all of it by `factor`.
    pub fn scale(&mut self, factor: f32) {
        for part in &mut self.parts {
            let values = match part {
                Part::Dense(values) => values,
                Part::Rows(rows) => &mut rows.values,
            };
            for g in values {
                *g *= factor;
            }
        }
    }

    /// Adds `factor · other`, element by element.
    pub fn add(&mut self, other: &Gradient, factor: f32) {
        assert_eq!(
            self.layout, other.layout,
            "gradients of two different models"
        );
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            match (mine, theirs) {
                (Part::Dense(a), Part::Dense(b)) => add_scaled(a, b, factor),
                (Part::Rows(a), Part::Rows(b)) => {
                    for (row, values) in b.iter() {
                        add_scaled(a.row(row), values, factor);
                    }
                }
                _ => unreachable!("equal layouts have equal kinds"),
            }
        }
    }

    /// Sum of squares of all elements. Not finite when an element is not, or is beyond 1e19.
    pub fn sum_of_squares(&self) -> f64 {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Dense(values) => sum_of_squares(values),
                Part::Rows(rows) => sum_of_squares(&rows.values),
            })
            .sum()
    }
}

impl Part {
    /// The elements of a dense tensor.
    ///
    /// # Panics
    /// When it is a table of rows.
    pub fn as_dense(&mut self) -> &mut [f32] {
        match self {
            Part::Dense(values) => values,
            Part::Rows(_) => panic!("this tensor was declared with Layout::rows"),
        }
    }

    /// The rows of a table.
    ///
    /// # Panics
    /// When it is a dense tensor.
    pub fn as_rows(&mut self) -> &mut Rows {
        match self {
            Part::Rows(rows) => rows,
            Part::Dense(_) => panic!("this tensor was declared with Layout::dense"),
        }
    }
}

impl Rows {
    fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            index: Vec::new(),
            values: Vec::new(),
            slot: vec![UNTOUCHED; rows],
        }
    }

    fn clear(&mut self) {
        for &row in &self.index {
            self.slot[row as usize] = UNTOUCHED;
        }
        self.index.clear();
        self.values.clear();
    }

    /// The gradient of one row, zero when it is first touched, to be added to.
    ///
    /// # Panics
    /// When the table has no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        if self.slot[row] == UNTOUCHED {
            self.slot[row] = self.index.len() as u32;
            self.index.push(row as u32);
            self.values.resize(self.index.len() * self.width, 0.0);
        }
        let at = self.slot[row] as usize * self.width;
        &mut self.values[at..at + self.width]
    }

    /// The touched rows' numbers and gradients.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let rows = self.index.iter().map(|&row| row as usize);
        rows.zip(self.values.chunks_exact(self.width))
    }

    /// Number of touched rows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no row is touched.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

fn add_scaled(into: &mut [f32], from: &[f32], factor: f32) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += factor * b;
    }
}

/// Sixteen running sums, so that the compiler may use vectors; the order is fixed.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0;
    for block in values.chunks(4096) {
        let mut sums = [0.0f32; LANES];
        let lanes = block.chunks_exact(LANES);
        let rest = lanes.remainder();
        for lane in lanes {
            for (sum, g) in sums.iter_mut().zip(lane) {
                *sum += g * g;
            }
        }
        let rest: f32 = rest.iter().map(|g| g * g).sum();
        total += sums.iter().map(|&s| f64::from(s)).sum::<f64>() + f64::from(rest);
    }
    total
}
