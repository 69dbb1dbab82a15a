//! Judges the promise from the client's side: in any interval of length T at most `burst + rate * T` tokens.

use std::time::Instant;

/// What happened, in any order.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// Requests that were allowed, a token each: sent, and answered. The decision lies between.
    pub allowed: Vec<(Instant, Instant)>,
    /// Losses of the store's state: not before, not after. Each may hand out one more burst.
    pub losses: Vec<(Instant, Instant)>,
}

impl Spent {
    /// The largest number of tokens by which the requests that lie wholly inside any interval exceed
    /// `burst * (1 + losses inside) + rate * length`; at most 0: the promise was kept.
    ///
    /// Every interval that begins with a request and ends with one is judged, which is all that matter.
    pub fn excess(&self, burst: f64, rate: f64) -> f64 {
        let Some(first) = self.allowed.iter().map(|(sent, _)| *sent).min() else { return f64::NEG_INFINITY };
        let at = |t: Instant| t.saturating_duration_since(first).as_secs_f64();
        let mut starts: Vec<f64> = self.allowed.iter().map(|(sent, _)| at(*sent)).collect();
        starts.sort_by(f64::total_cmp);
        // Interval begins at starts[i]: worth rate * starts[i] now, and one more with each request inside.
        let mut worth = Prefixes::new(starts.iter().map(|start| rate * start).collect());
        let mut events: Vec<(f64, f64, f64)> =
            self.allowed.iter().map(|(sent, done)| (at(*done), at(*sent), 1.0)).collect();
        events.extend(self.losses.iter().map(|(from, to)| (at(*from), at(*to), -burst)));
        // A loss before an answer of the same moment: in favour of the product, by nothing that can be measured.
        events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.total_cmp(&b.2)));
        let mut most = f64::NEG_INFINITY;
        for (end, begin, tokens) in events {
            worth.add(starts.partition_point(|start| *start <= begin), tokens);
            if tokens > 0.0 {
                let begun = starts.partition_point(|start| *start <= end);
                most = most.max(worth.most(begun) - rate * end - burst);
            }
        }
        most
    }
}

/// Numbers of which beginnings are added to, and whose beginnings are asked for their largest.
struct Prefixes {
    size: usize,
    most: Vec<f64>,
    added: Vec<f64>,
}

impl Prefixes {
    fn new(values: Vec<f64>) -> Prefixes {
        let size = values.len().next_power_of_two();
        let mut most = vec![f64::NEG_INFINITY; 2 * size];
        most[size..size + values.len()].copy_from_slice(&values);
        for node in (1..size).rev() {
            most[node] = most[2 * node].max(most[2 * node + 1]);
        }
        Prefixes { size, most, added: vec![0.0; 2 * size] }
    }

    /// Adds to the first `count` numbers.
    fn add(&mut self, count: usize, value: f64) {
        self.add_in(1, 0, self.size, count, value);
    }

    fn add_in(&mut self, node: usize, from: usize, to: usize, count: usize, value: f64) {
        if count <= from {
            return;
        }
        if to <= count {
            self.most[node] += value;
            self.added[node] += value;
            return;
        }
        let middle = usize::midpoint(from, to);
        self.add_in(2 * node, from, middle, count, value);
        self.add_in(2 * node + 1, middle, to, count, value);
        self.most[node] = self.most[2 * node].max(self.most[2 * node + 1]) + self.added[node];
    }

    /// The largest of the first `count` numbers.
    fn most(&self, count: usize) -> f64 {
        self.most_in(1, 0, self.size, count)
    }

    fn most_in(&self, node: usize, from: usize, to: usize, count: usize) -> f64 {
        if count <= from {
            return f64::NEG_INFINITY;
        }
        if to <= count {
            return self.most[node];
        }
        let middle = usize::midpoint(from, to);
        let (left, right) =
            (self.most_in(2 * node, from, middle, count), self.most_in(2 * node + 1, middle, to, count));
        left.max(right) + self.added[node]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spent(times: &[(u64, u64)], losses: &[(u64, u64)]) -> Spent {
        let zero = Instant::now();
        let at = |(a, b): &(u64, u64)| (zero + Duration::from_millis(*a), zero + Duration::from_millis(*b));
        Spent { allowed: times.iter().map(at).collect(), losses: losses.iter().map(at).collect() }
    }

    #[test]
    fn a_burst_and_what_refills_is_allowed_and_one_more_is_not() {
        let mut times = vec![(0, 1), (0, 1), (0, 1), (1000, 1001), (2000, 2001)];
        assert!(spent(&times, &[]).excess(3.0, 1.0) <= 0.0);
        times.push((2000, 2001));
        assert!((spent(&times, &[]).excess(3.0, 1.0) - 0.999).abs() < 1e-6);
    }

    #[test]
    fn a_breach_in_the_middle_of_a_long_quiet_run_is_found() {
        let mut times: Vec<(u64, u64)> = (0..100).map(|n| (n * 10_000, n * 10_000 + 5)).collect();
        assert!(spent(&times, &[]).excess(3.0, 1.0) <= 0.0);
        times.extend([(500_100, 500_105); 4]);
        assert!(spent(&times, &[]).excess(3.0, 1.0) > 0.5);
    }

    #[test]
    fn a_request_that_is_only_partly_inside_does_not_count() {
        // Four at once would be too many, but one of them may have been decided ten seconds before.
        assert!(
            spent(&[(0, 10_002), (10_000, 10_001), (10_000, 10_001), (10_000, 10_001)], &[]).excess(3.0, 0.1) <= 0.0
        );
    }

    #[test]
    fn a_loss_of_state_is_worth_a_burst_where_it_lies_inside() {
        let times = [(0, 1), (0, 1), (0, 1), (500, 501), (500, 501), (500, 501)];
        assert!(spent(&times, &[(200, 300)]).excess(3.0, 1.0) <= 0.0);
        assert!(spent(&times, &[]).excess(3.0, 1.0) > 2.0);
        assert!(spent(&times, &[(600, 700)]).excess(3.0, 1.0) > 2.0);
    }

    #[test]
    fn agrees_with_trying_every_interval() {
        for _ in 0..200 {
            let times: Vec<(u64, u64)> = (0..fastrand::usize(1..30))
                .map(|_| {
                    let start = fastrand::u64(0..5_000);
                    (start, start + fastrand::u64(1..800))
                })
                .collect();
            let (burst, rate) = (f64::from(fastrand::u32(1..5)), f64::from(fastrand::u32(0..5)));
            let mut most = f64::NEG_INFINITY;
            for (from, _) in &times {
                for (_, to) in times.iter().filter(|(_, to)| to >= from) {
                    let inside = times.iter().filter(|(a, b)| a >= from && b <= to).count();
                    most = most.max(inside as f64 - burst - rate * (to - from) as f64 / 1000.0);
                }
            }
            let found = spent(&times, &[]).excess(burst, rate);
            assert!((found - most).abs() < 1e-6, "{found} and {most} of {times:?}");
        }
    }
}
