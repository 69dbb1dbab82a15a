//! The size of the fleet as data planes are told: nothing at first, while they are still coming; growth at once;
//! shrinking late. Too small a number would let in-process fallback buckets allow too much, so it errs upwards.

use std::time::Duration;

use tokio::time::Instant;

/// Data planes and their workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Data planes.
    pub planes: u32,
    /// Workers of all of them.
    pub workers: u32,
}

impl Size {
    fn max(self, other: Size) -> Size {
        Size { planes: self.planes.max(other.planes), workers: self.workers.max(other.workers) }
    }
}

/// The rule, with time as an argument.
#[derive(Debug)]
pub struct Damped {
    speak_from: Instant,
    shrink_after: Duration,
    told: Option<Size>,
    /// Since when it is smaller than told, and the largest it was since then.
    smaller: Option<(Instant, Size)>,
}

impl Damped {
    /// Says nothing for `quiet` from `now`, then shrinks only after `shrink_after`.
    pub fn new(now: Instant, quiet: Duration, shrink_after: Duration) -> Damped {
        Damped { speak_from: now + quiet, shrink_after, told: None, smaller: None }
    }

    /// What to tell at `now`, when `actual` are connected. `None`: nothing yet.
    pub fn observe(&mut self, now: Instant, actual: Size) -> Option<Size> {
        if now < self.speak_from {
            return None;
        }
        let told = self.told.map_or(actual, |told| told.max(actual));
        self.told = Some(told);
        if actual == told {
            self.smaller = None;
            return self.told;
        }
        match &mut self.smaller {
            None => self.smaller = Some((now, actual)),
            Some((_, peak)) => *peak = peak.max(actual),
        }
        if let Some((since, peak)) = self.smaller
            && now.duration_since(since) >= self.shrink_after
        {
            self.told = Some(peak);
            self.smaller = (peak != actual).then_some((now, actual));
        }
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(planes: u32) -> Size {
        Size { planes, workers: planes * 2 }
    }

    fn damped() -> (Damped, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |s| start + Duration::from_secs(s);
        (Damped::new(start, Duration::from_secs(30), Duration::from_secs(60)), at)
    }

    #[test]
    fn nothing_is_told_in_the_first_30_s() {
        let (mut damped, at) = damped();
        assert_eq!(damped.observe(at(0), size(3)), None);
        assert_eq!(damped.observe(at(29), size(5)), None);
        assert_eq!(damped.observe(at(30), size(4)), Some(size(4)));
    }

    #[test]
    fn it_grows_at_once() {
        let (mut damped, at) = damped();
        damped.observe(at(30), size(4));
        assert_eq!(damped.observe(at(31), size(9)), Some(size(9)));
    }

    #[test]
    fn it_shrinks_after_60_s_to_the_most_that_was_seen_meanwhile() {
        let (mut damped, at) = damped();
        damped.observe(at(30), size(9));
        assert_eq!(damped.observe(at(40), size(3)), Some(size(9)));
        assert_eq!(damped.observe(at(70), size(5)), Some(size(9)));
        assert_eq!(damped.observe(at(99), size(3)), Some(size(9)));
        assert_eq!(damped.observe(at(100), size(3)), Some(size(5)));
        assert_eq!(damped.observe(at(159), size(3)), Some(size(5)));
        assert_eq!(damped.observe(at(160), size(3)), Some(size(3)));
    }

    #[test]
    fn a_short_dip_does_not_shrink_it() {
        let (mut damped, at) = damped();
        damped.observe(at(30), size(9));
        damped.observe(at(40), size(1));
        assert_eq!(damped.observe(at(50), size(9)), Some(size(9)));
        assert_eq!(damped.observe(at(105), size(1)), Some(size(9)));
    }
}
