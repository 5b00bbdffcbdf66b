//! Parameters are flat: one `f32` vector with a table of names, shapes and kinds.
//!
//! The library needs no machine-learning framework for this, and any framework can
//! stand behind a task. A gradient is kept tensor by tensor,
//! because an embedding table's gradient touches only the rows of the words that
//! occurred: such a tensor holds those rows and nothing else.

mod gradient;
mod snapshot;

use std::ops::Range;
use std::sync::Arc;

pub use gradient::{Gradient, Rows, TensorGradient};
pub use gradient::{SQUARES_BLOCK, add_squares, sum_of_squares};
pub use snapshot::{Fresh, Since, Snapshot};

/// How the gradient of a tensor looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every element may change in every step.
    Dense,
    /// A table of which a batch touches few rows, such as an embedding.
    Rows,
}

/// How a step changes a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Along its gradient, by the run's optimizer.
    Trained {
        /// What the learning rate is multiplied by.
        rate: f32,
        /// Whether the optimizer's weight decay pulls at it.
        decays: bool,
    },
    /// What is pushed is added as it is: figures that a model keeps of what it has seen, such as the running means of
    /// batch normalization (Ioffe and Szegedy 2015). They have no part in the gradient's norm, and are not clipped.
    Added,
}

impl Default for Rule {
    fn default() -> Self {
        Self::Trained {
            rate: 1.0,
            decays: true,
        }
    }
}

/// Which tensor of a [`Layout`]: its place in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// One named tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name in checkpoints, such as `encoder.rnn.0.weight_ih`.
    pub name: String,
    /// Its shape, outermost dimension first (row-major).
    pub shape: Vec<usize>,
    /// Dense, or a table of which few rows are touched.
    pub kind: Kind,
    /// How a step changes it.
    pub rule: Rule,
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
/// let mut layout = dsgd_core::params::Layout::new();
/// let table = layout.rows("embedding.weight", 1000, 8);
/// let bias = layout.dense("output.bias", &[1000]);
/// assert_eq!(layout.len(), 9000);
/// assert_eq!(layout.tensor(bias).range, 8000..9000);
/// assert_eq!(layout.find("embedding.weight"), Some(table));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
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
        // What no memory can hold is refused where memory is asked for.
        let product = shape.iter().copied().fold(1, usize::saturating_mul);
        self.len = self.len.saturating_add(product);
        self.tensors.push(Tensor {
            name,
            shape,
            kind,
            rule: Rule::default(),
            range: start..self.len,
        });
        TensorId(self.tensors.len() - 1)
    }

    /// Says how steps change a tensor.
    ///
    /// # Panics
    /// When something is to be added to a table of rows.
    pub fn set_rule(&mut self, id: TensorId, rule: Rule) {
        let tensor = &mut self.tensors[id.0];
        let fits = rule != Rule::Added || tensor.kind == Kind::Dense;
        assert!(fits, "{} is a table: nothing can be added", tensor.name);
        tensor.rule = rule;
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

/// Dense tensors from their names and shapes.
///
/// ```
/// let layout: dsgd_core::params::Layout = [("weight", &[2, 3][..]), ("bias", &[2])].into_iter().collect();
/// assert_eq!(layout.len(), 8);
/// ```
impl<N: Into<String>, S: AsRef<[usize]>> FromIterator<(N, S)> for Layout {
    fn from_iter<I: IntoIterator<Item = (N, S)>>(tensors: I) -> Self {
        let mut layout = Self::new();
        for (name, shape) in tensors {
            layout.dense(name, shape.as_ref());
        }
        layout
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
