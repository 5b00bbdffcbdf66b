//! The elementwise part of each cell, one step of 16 sentences at a time.
//!
//! The formulas are those of the paper of each cell, written out at each kernel; `n` is the
//! hidden size times 16, and a block of gates lies one after the other, `n` values each.
//! A kernel that goes backward turns the activations where they lie into the gradients of
//! what came before the activation, and adds them to running sums, which are the gradients
//! of biases and peepholes lane by lane.
#![allow(unsafe_code)]

use super::kernel::Kernel;
use super::math::{sigmoid, tanh};
use super::vector::{GROUP, Vector};

/// LSTM, forward: i, f and o through the logistic function, g through tanh;
/// `c' = f·c + i·g`, `h' = o·tanh(c')`. With peepholes i and f see c, o sees c'.
pub(crate) struct LstmForward<'a> {
    /// In: before activation, i f g o. Out: after it.
    pub(crate) gates: &'a mut [f32],
    /// [3, hidden] for i, f, o.
    pub(crate) peephole: Option<&'a [f32]>,
    pub(crate) cell_before: &'a [f32],
    pub(crate) cell: &'a mut [f32],
    /// tanh(c'), kept for the way back.
    pub(crate) squashed: &'a mut [f32],
    pub(crate) hidden: &'a mut [f32],
}

impl Kernel for LstmForward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.gates.len() == 4 * n);
        assert!(self.cell_before.len() == n && self.cell.len() == n && self.squashed.len() == n);
        assert!(self.peephole.is_none_or(|p| p.len() == 3 * (n / GROUP)));
        let gates = self.gates.as_mut_ptr();
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let before = V::load(self.cell_before.as_ptr().add(at));
                let mut i = V::load(gates.add(at));
                let mut f = V::load(gates.add(n + at));
                let g = tanh(V::load(gates.add(2 * n + at)));
                let mut o = V::load(gates.add(3 * n + at));
                let unit = at / GROUP;
                if let Some(p) = self.peephole {
                    i = i.add_product(V::splat(*p.get_unchecked(unit)), before);
                    f = f.add_product(V::splat(*p.get_unchecked(n / GROUP + unit)), before);
                }
                let (i, f) = (sigmoid(i), sigmoid(f));
                let cell = f.mul(before).add_product(i, g);
                if let Some(p) = self.peephole {
                    o = o.add_product(V::splat(*p.get_unchecked(2 * (n / GROUP) + unit)), cell);
                }
                let (o, squashed) = (sigmoid(o), tanh(cell));
                i.store(gates.add(at));
                f.store(gates.add(n + at));
                g.store(gates.add(2 * n + at));
                o.store(gates.add(3 * n + at));
                cell.store(self.cell.as_mut_ptr().add(at));
                squashed.store(self.squashed.as_mut_ptr().add(at));
                o.mul(squashed).store(self.hidden.as_mut_ptr().add(at));
            }
        }
    }
}

/// LSTM, backward.
pub(crate) struct LstmBackward<'a> {
    /// In: after activation. Out: gradients before it.
    pub(crate) gates: &'a mut [f32],
    pub(crate) peephole: Option<&'a [f32]>,
    pub(crate) cell_before: &'a [f32],
    pub(crate) cell: &'a [f32],
    pub(crate) squashed: &'a [f32],
    /// The two parts of the gradient of h': from above and from the next step.
    pub(crate) d_hidden: [&'a [f32]; 2],
    /// In: gradient of c'. Out: of c.
    pub(crate) d_cell: &'a mut [f32],
    /// [4n], or [7n] with peepholes.
    pub(crate) sums: &'a mut [f32],
}

impl Kernel for LstmBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.d_cell.len();
        assert!(n.is_multiple_of(GROUP) && self.gates.len() == 4 * n);
        assert!(self.cell_before.len() == n && self.cell.len() == n && self.squashed.len() == n);
        assert!(self.d_hidden.iter().all(|d| d.len() == n));
        assert!(self.peephole.is_none_or(|p| p.len() == 3 * (n / GROUP)));
        assert!(
            self.sums.len()
                == if self.peephole.is_some() {
                    7 * n
                } else {
                    4 * n
                }
        );
        let (gates, sums) = (self.gates.as_mut_ptr(), self.sums.as_mut_ptr());
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let one = V::splat(1.0);
                let load = |from: &[f32]| V::load(from.as_ptr().add(at));
                let gate = |which: usize| V::load(gates.add(which * n + at));
                let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                let (before, squashed) = (load(self.cell_before), load(self.squashed));
                let d_hidden = load(self.d_hidden[0]).add(load(self.d_hidden[1]));
                let d_o = d_hidden.mul(squashed).mul(o).mul(one.sub(o));
                let through = one.sub(squashed.mul(squashed)).mul(o);
                let mut d_cell = load(self.d_cell).add_product(d_hidden, through);
                let peep = |row: usize, p: &[f32]| V::splat(p[row * (n / GROUP) + at / GROUP]);
                if let Some(p) = self.peephole {
                    d_cell = d_cell.add_product(d_o, peep(2, p));
                }
                let d_i = d_cell.mul(g).mul(i).mul(one.sub(i));
                let d_f = d_cell.mul(before).mul(f).mul(one.sub(f));
                let d_g = d_cell.mul(i).mul(one.sub(g.mul(g)));
                let mut d_before = d_cell.mul(f);
                let add = |which: usize, value: V| {
                    let to = sums.add(which * n + at);
                    V::load(to).add(value).store(to);
                };
                if let Some(p) = self.peephole {
                    d_before = d_before.add_product(d_i, peep(0, p));
                    d_before = d_before.add_product(d_f, peep(1, p));
                    add(4, d_i.mul(before));
                    add(5, d_f.mul(before));
                    add(6, d_o.mul(load(self.cell)));
                }
                d_before.store(self.d_cell.as_mut_ptr().add(at));
                for (which, value) in [d_i, d_f, d_g, d_o].into_iter().enumerate() {
                    value.store(gates.add(which * n + at));
                    add(which, value);
                }
            }
        }
    }
}

/// GRU, forward, before the candidate's recurrent product: r and z through the logistic
/// function, and `r·h` for that product.
pub(crate) struct GruReset<'a> {
    /// In: before activation, r z n. Out: r and z after it.
    pub(crate) gates: &'a mut [f32],
    pub(crate) hidden_before: &'a [f32],
    pub(crate) reset_hidden: &'a mut [f32],
}

impl Kernel for GruReset<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.hidden_before.len();
        assert!(n.is_multiple_of(GROUP) && self.gates.len() == 3 * n);
        assert!(self.reset_hidden.len() == n);
        let gates = self.gates.as_mut_ptr();
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let r = sigmoid(V::load(gates.add(at)));
                let z = sigmoid(V::load(gates.add(n + at)));
                r.store(gates.add(at));
                z.store(gates.add(n + at));
                let before = V::load(self.hidden_before.as_ptr().add(at));
                r.mul(before).store(self.reset_hidden.as_mut_ptr().add(at));
            }
        }
    }
}

/// GRU, forward, after that product: `n` through tanh and `h' = (1 - z)·n + z·h`.
pub(crate) struct GruForward<'a> {
    pub(crate) gates: &'a mut [f32],
    pub(crate) hidden_before: &'a [f32],
    pub(crate) hidden: &'a mut [f32],
}

impl Kernel for GruForward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.gates.len() == 3 * n);
        assert!(self.hidden_before.len() == n);
        let gates = self.gates.as_mut_ptr();
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let z = V::load(gates.add(n + at));
                let candidate = tanh(V::load(gates.add(2 * n + at)));
                candidate.store(gates.add(2 * n + at));
                let before = V::load(self.hidden_before.as_ptr().add(at));
                let hidden = candidate.add_product(z, before.sub(candidate));
                hidden.store(self.hidden.as_mut_ptr().add(at));
            }
        }
    }
}

/// GRU, backward, before the candidate's recurrent product.
pub(crate) struct GruBackward<'a> {
    /// In: r z n. Out: r, and the gradients of z and n before their activation.
    pub(crate) gates: &'a mut [f32],
    pub(crate) hidden_before: &'a [f32],
    pub(crate) d_above: &'a [f32],
    /// In: gradient of h' from the next step. Out: of h, the direct part `z·dh'`.
    pub(crate) d_hidden: &'a mut [f32],
    /// [3n]
    pub(crate) sums: &'a mut [f32],
}

impl Kernel for GruBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.d_hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.gates.len() == 3 * n && self.sums.len() == 3 * n);
        assert!(self.hidden_before.len() == n && self.d_above.len() == n);
        let (gates, sums) = (self.gates.as_mut_ptr(), self.sums.as_mut_ptr());
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let one = V::splat(1.0);
                let z = V::load(gates.add(n + at));
                let candidate = V::load(gates.add(2 * n + at));
                let before = V::load(self.hidden_before.as_ptr().add(at));
                let d_to = self.d_hidden.as_mut_ptr().add(at);
                let d_hidden = V::load(d_to).add(V::load(self.d_above.as_ptr().add(at)));
                let d_z = d_hidden.mul(before.sub(candidate)).mul(z).mul(one.sub(z));
                let slope = one.sub(candidate.mul(candidate));
                let d_candidate = d_hidden.mul(one.sub(z)).mul(slope);
                d_hidden.mul(z).store(d_to);
                for (which, value) in [(1, d_z), (2, d_candidate)] {
                    value.store(gates.add(which * n + at));
                    let sum = sums.add(which * n + at);
                    V::load(sum).add(value).store(sum);
                }
            }
        }
    }
}

/// GRU, backward, after that product.
pub(crate) struct GruResetBackward<'a> {
    /// In: r. Out: its gradient before activation.
    pub(crate) reset: &'a mut [f32],
    pub(crate) hidden_before: &'a [f32],
    pub(crate) d_reset_hidden: &'a [f32],
    pub(crate) d_hidden: &'a mut [f32],
    /// [n]
    pub(crate) sums: &'a mut [f32],
}

impl Kernel for GruResetBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.d_hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.reset.len() == n && self.sums.len() == n);
        assert!(self.hidden_before.len() == n && self.d_reset_hidden.len() == n);
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let reset = self.reset.as_mut_ptr().add(at);
                let r = V::load(reset);
                let d = V::load(self.d_reset_hidden.as_ptr().add(at));
                let d_to = self.d_hidden.as_mut_ptr().add(at);
                V::load(d_to).add_product(d, r).store(d_to);
                let before = V::load(self.hidden_before.as_ptr().add(at));
                let d_r = d.mul(before).mul(r).mul(V::splat(1.0).sub(r));
                d_r.store(reset);
                let sum = self.sums.as_mut_ptr().add(at);
                V::load(sum).add(d_r).store(sum);
            }
        }
    }
}

/// Sigmoid RNN, forward: `h' = σ(gate)`.
pub(crate) struct RnnForward<'a> {
    pub(crate) gate: &'a [f32],
    pub(crate) hidden: &'a mut [f32],
}

impl Kernel for RnnForward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.gate.len() == n);
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                sigmoid(V::load(self.gate.as_ptr().add(at)))
                    .store(self.hidden.as_mut_ptr().add(at));
            }
        }
    }
}

/// Sigmoid RNN, backward.
pub(crate) struct RnnBackward<'a> {
    /// Out: the gradient before activation.
    pub(crate) gate: &'a mut [f32],
    pub(crate) hidden: &'a [f32],
    pub(crate) d_hidden: [&'a [f32]; 2],
    /// [n]
    pub(crate) sums: &'a mut [f32],
}

impl Kernel for RnnBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.hidden.len();
        assert!(n.is_multiple_of(GROUP) && self.gate.len() == n && self.sums.len() == n);
        assert!(self.d_hidden.iter().all(|d| d.len() == n));
        for at in (0..n).step_by(V::LANES) {
            // SAFETY: `at + LANES <= n`, and all lengths were compared with n above.
            unsafe {
                let load = |from: &[f32]| V::load(from.as_ptr().add(at));
                let h = load(self.hidden);
                let d = load(self.d_hidden[0]).add(load(self.d_hidden[1]));
                let d = d.mul(h).mul(V::splat(1.0).sub(h));
                d.store(self.gate.as_mut_ptr().add(at));
                let sum = self.sums.as_mut_ptr().add(at);
                V::load(sum).add(d).store(sum);
            }
        }
    }
}
