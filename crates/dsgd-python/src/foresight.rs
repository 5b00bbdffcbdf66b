//! Which batches a worker is likely to be given next, so that their examples are loaded while this one is computed.
//!
//! Batches are given out in the epoch's order, and a worker of several mostly gets each k-th of them: the next one lies
//! as far behind this one as this one behind the last. Where that is wrong, something was loaded in vain.

use dsgd::Batch;
use dsgd_core::task::epoch_order;

/// What is known of the batches that a worker was given.
#[derive(Debug, Default)]
pub(crate) struct Foresight {
    epoch: u32,
    /// The epoch's batches in order, and the place of each.
    order: Vec<usize>,
    places: Vec<usize>,
    last: Option<usize>,
}

impl Foresight {
    /// Notes what the worker was given; returns which batches of the same epoch are likely to follow.
    pub(crate) fn after(
        &mut self,
        batch: Batch,
        seed: u64,
        batches: usize,
    ) -> impl Iterator<Item = usize> {
        if self.epoch != batch.epoch || self.order.len() != batches {
            self.order = epoch_order(seed, batch.epoch, batches);
            self.places = vec![0; batches];
            for (place, &index) in self.order.iter().enumerate() {
                self.places[index] = place;
            }
            self.epoch = batch.epoch;
            self.last = None;
        }
        let place = self.places[batch.index];
        let stride = self.last.and_then(|last| place.checked_sub(last));
        self.last = Some(place);
        // Two parts of a batch say nothing of the next one.
        let stride = stride.filter(|&stride| stride > 0).unwrap_or(1);
        self.order[place..].iter().copied().step_by(stride).skip(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_several_goes_on_at_its_pace() {
        let (seed, batches) = (7, 20);
        let order = epoch_order(seed, 1, batches);
        let mut foresight = Foresight::default();
        let mut after = |epoch, place: usize| {
            let batch = Batch {
                index: epoch_order(seed, epoch, batches)[place],
                epoch,
                seed: 0,
                part: dsgd::Part::WHOLE,
            };
            foresight.after(batch, seed, batches).next()
        };
        assert_eq!(
            after(1, 0),
            Some(order[1]),
            "nothing is known: the next one"
        );
        assert_eq!(after(1, 3), Some(order[6]), "one of three");
        assert_eq!(after(1, 3), Some(order[4]), "another part of it");
        assert_eq!(after(1, 2), Some(order[3]), "one that was given out again");
        assert_eq!(after(1, 19), None, "the epoch's last");
        assert_eq!(after(2, 4), Some(epoch_order(seed, 2, batches)[5]));
    }
}
