#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::{
    spender::waiters::Waiters,
    store::{Counter, Purpose},
};

const PATIENCE: Duration = Duration::from_millis(25);

fn plan() -> Plan {
    let numbers = edgequota_policy::Numbers::new(1, 10, Duration::from_secs(1)).unwrap();
    let mut plan = Plan::new(Purpose::Spend, String::new());
    plan.push(Counter { cost: 1, numbers, enforce: true, min_ttl_ms: 0 }, |key| key.push('k'));
    plan
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn who_waits_behind_a_call_for_long_goes_with_a_second_one() {
    let (mut lines, mut waiters, start) = (Lines::default(), Waiters::default(), Instant::now());
    let mut join = |lines: &mut Lines, at| lines.join(&plan(), false, waiters.enter(at + ms(100)), at, PATIENCE);
    let (line, goes) = join(&mut lines, start);
    assert!(goes && lines.next_overdue().is_none(), "the first goes at once");
    assert_eq!(lines.depart(line, start).len(), 1);
    lines.get_mut(line).unwrap().call_begun();
    assert_eq!(join(&mut lines, start + ms(5)), (line, false));
    assert_eq!(join(&mut lines, start + ms(9)), (line, false));
    assert_eq!(lines.next_overdue(), Some(start + ms(30)));
    // Looking before it is time takes nothing away.
    assert_eq!(lines.overdue(start + ms(29)), None);
    assert_eq!(lines.overdue(start + ms(30)), Some(line));
    assert_eq!(lines.overdue(start + ms(30)), None, "once");
    assert_eq!(lines.depart(line, start + ms(30)).len(), 2);
}

#[test]
fn who_was_served_in_time_is_not_overdue() {
    let (mut lines, mut waiters, start) = (Lines::default(), Waiters::default(), Instant::now());
    let mut join = |lines: &mut Lines, at| lines.join(&plan(), false, waiters.enter(at + ms(100)), at, PATIENCE);
    let (line, _) = join(&mut lines, start);
    lines.depart(line, start);
    lines.get_mut(line).unwrap().call_begun();
    join(&mut lines, start + ms(1));
    lines.get_mut(line).unwrap().call_ended();
    assert!(lines.goes_on(line, start + ms(2), PATIENCE), "the answer came: the next call goes");
    lines.depart(line, start + ms(2));
    assert_eq!(lines.next_overdue(), None);
}
