//! Connections to backends, kept per worker and per definition of a backend.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use edgequota_policy::Backend;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    UpstreamError,
    connect::connect,
    h1::H1Conn,
    h2::H2Conn,
    probe::Belief,
    resolve::{Addresses, Resolver},
    single_flight::{Part, SingleFlight},
};

/// `max_conns` of every backend that has one, counted over the whole process.
#[derive(Debug, Default)]
pub(crate) struct Caps(Mutex<HashMap<Arc<Backend>, Weak<Cap>>>);

/// One backend's cap.
#[derive(Debug)]
struct Cap {
    permits: Arc<Semaphore>,
    /// Requests of any worker that wait for a connection: idle ones are given up for them.
    waiting: AtomicUsize,
}

impl Caps {
    fn of(&self, backend: &Arc<Backend>) -> Option<Arc<Cap>> {
        let most = backend.max_conns?;
        let mut caps = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        caps.retain(|_, cap| cap.strong_count() > 0);
        if let Some(cap) = caps.get(backend).and_then(Weak::upgrade) {
            return Some(cap);
        }
        let cap = Arc::new(Cap { permits: Arc::new(Semaphore::new(most)), waiting: AtomicUsize::new(0) });
        caps.insert(Arc::clone(backend), Arc::downgrade(&cap));
        Some(cap)
    }
}

/// One worker's pools.
#[derive(Debug)]
pub(crate) struct Pools {
    resolver: Resolver,
    caps: Arc<Caps>,
    workers: usize,
    by_definition: RefCell<HashMap<Arc<Backend>, Rc<Pool>>>,
}

impl Pools {
    pub(crate) fn new(resolver: Resolver, caps: Arc<Caps>, workers: usize) -> Pools {
        Pools { resolver, caps, workers: workers.max(1), by_definition: RefCell::default() }
    }

    /// Pools for exactly these backends. One whose definition is unchanged keeps its connections; one that is gone
    /// lives on in the requests that hold it.
    pub(crate) fn rebuild(&self, backends: &[Arc<Backend>]) -> HashMap<*const Backend, Rc<Pool>> {
        let mut kept = HashMap::with_capacity(backends.len());
        let mut by_pointer = HashMap::with_capacity(backends.len());
        let mut known = self.by_definition.borrow_mut();
        for backend in backends {
            let pool = known.remove(backend).unwrap_or_else(|| {
                let cap = self.caps.of(backend);
                Rc::new(Pool::new(Arc::clone(backend), self.resolver.clone(), cap, self.workers))
            });
            kept.insert(Arc::clone(backend), Rc::clone(&pool));
            by_pointer.insert(Arc::as_ptr(backend), pool);
        }
        *known = kept;
        by_pointer
    }

    /// Closes what was idle or grew old.
    pub(crate) fn sweep(&self) {
        for pool in self.by_definition.borrow().values() {
            pool.sweep();
        }
    }
}

/// This worker's connections to one backend.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) backend: Arc<Backend>,
    resolver: Resolver,
    cap: Option<Arc<Cap>>,
    most_idle: usize,
    turn: Cell<usize>,
    idle: RefCell<Vec<H1Conn>>,
    shared: RefCell<Vec<Rc<H2Conn>>>,
    addresses: RefCell<Option<Addresses>>,
    /// Requests of this worker that wait for a connection under `max_conns`.
    waiting_here: Cell<usize>,
    returned: Notify,
    dialing: SingleFlight<UpstreamError>,
    pub(super) belief: Belief,
}

/// Room for one connection under `max_conns`; given back with the connection.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

impl Pool {
    fn new(backend: Arc<Backend>, resolver: Resolver, cap: Option<Arc<Cap>>, workers: usize) -> Pool {
        Pool {
            most_idle: backend.max_idle_conns.div_ceil(workers),
            backend,
            resolver,
            cap,
            turn: Cell::new(fastrand::usize(..1 << 16)),
            idle: RefCell::default(),
            shared: RefCell::default(),
            addresses: RefCell::default(),
            waiting_here: Cell::new(0),
            returned: Notify::new(),
            dialing: SingleFlight::new(),
            belief: Belief::new(),
        }
    }

    /// The backend's addresses. Connections to an address that is gone are not used again.
    pub(crate) async fn resolve(&self) -> Result<Addresses, String> {
        let found = self.resolver.resolve(&self.backend.host, self.backend.port, self.backend.dns_refresh).await?;
        self.keep_to(&found);
        Ok(found)
    }

    fn keep_to(&self, found: &Addresses) {
        let mut known = self.addresses.borrow_mut();
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, found)) {
            self.idle.borrow_mut().retain(|conn| found.contains(&conn.address));
            self.shared.borrow_mut().retain(|conn| found.contains(&conn.address));
            *known = Some(Arc::clone(found));
        }
    }

    /// Whose turn it is among the addresses.
    pub(crate) fn next_turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// An idle HTTP/1 connection (unless `fresh`), else a new one.
    pub(crate) async fn take_h1(&self, fresh: bool) -> Result<H1Conn, UpstreamError> {
        if !fresh && let Some(conn) = self.pop_idle() {
            return Ok(conn);
        }
        loop {
            match self.permit().await? {
                Turn::Connect(permit) => {
                    let (io, address) = connect(self).await?;
                    return Ok(H1Conn::new(io, address, permit));
                }
                Turn::Look => {
                    if let Some(conn) = self.pop_idle() {
                        return Ok(conn);
                    }
                }
            }
        }
    }

    fn pop_idle(&self) -> Option<H1Conn> {
        let mut idle = self.idle.borrow_mut();
        // The most recently used one first: the others get their chance to grow idle and close.
        while let Some(mut conn) = idle.pop() {
            if !self.is_old(conn.born) && conn.is_quiet() {
                return Some(conn);
            }
        }
        None
    }

    /// Takes an HTTP/1 connection back after a complete exchange.
    pub(crate) fn give_back(&self, mut conn: H1Conn) {
        let wanted_elsewhere =
            self.cap.as_ref().is_some_and(|cap| cap.waiting.load(Ordering::Relaxed) > self.waiting_here.get());
        if self.is_old(conn.born) || (wanted_elsewhere && self.waiting_here.get() == 0) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most_idle.max(self.waiting_here.get()) {
            conn.idle_since = Instant::now();
            idle.push(conn);
            self.returned.notify_one();
        }
    }

    fn is_old(&self, born: Instant) -> bool {
        self.backend.max_connection_age.is_some_and(|age| born.elapsed() >= age)
    }

    /// Waits for room under `max_conns`, at most `dial_timeout`.
    async fn permit(&self) -> Result<Turn, UpstreamError> {
        let Some(cap) = &self.cap else { return Ok(Turn::Connect(None)) };
        if let Ok(permit) = Arc::clone(&cap.permits).try_acquire_owned() {
            return Ok(Turn::Connect(Some(permit)));
        }
        let _waiting = Waiting::new(&self.waiting_here, &cap.waiting);
        let full = || UpstreamError::Full { backend: self.backend.name.to_string() };
        tokio::select! {
            permit = Arc::clone(&cap.permits).acquire_owned() => permit.map(|p| Turn::Connect(Some(p))).map_err(|_| full()),
            () = self.returned.notified() => Ok(Turn::Look),
            () = tokio::time::sleep(self.backend.dial_timeout) => Err(full()),
        }
    }

    /// An HTTP/2 connection with room for one more stream (unless `fresh`), else a new one. One is opened at a time:
    /// those who come meanwhile share it.
    pub(crate) async fn take_h2(&self, fresh: bool) -> Result<Rc<H2Conn>, UpstreamError> {
        let since = fresh.then(Instant::now);
        loop {
            if let Some(conn) = self.shared(since, H2Conn::has_room) {
                return Ok(conn);
            }
            let work = match self.dialing.join().await {
                Part::Work(work) => work,
                Part::Ended(Ok(())) => continue,
                Part::Ended(Err(error)) => return Err(error),
            };
            match self.open_h2().await {
                Ok(Some(conn)) => return Ok(conn),
                Ok(None) => {}
                Err(error) => {
                    work.fail(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// `None`: look again, a connection came back.
    async fn open_h2(&self) -> Result<Option<Rc<H2Conn>>, UpstreamError> {
        // Under a cap that is reached, a full connection with a queue is better than none.
        if self.cap.as_ref().is_some_and(|cap| cap.permits.available_permits() == 0)
            && let Some(conn) = self.shared(None, |_| true)
        {
            return Ok(Some(conn));
        }
        let Turn::Connect(permit) = self.permit().await? else { return Ok(None) };
        let (io, address) = connect(self).await?;
        let conn = Rc::new(H2Conn::open(io, address, &self.backend, permit).await?);
        self.shared.borrow_mut().push(Rc::clone(&conn));
        Ok(Some(conn))
    }

    /// The open connection with the fewest streams.
    fn shared(&self, since: Option<Instant>, fits: impl Fn(&H2Conn) -> bool) -> Option<Rc<H2Conn>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|conn| conn.is_open() && !self.is_old(conn.born));
        let fit = shared.iter().filter(|conn| fits(conn) && since.is_none_or(|since| conn.born >= since));
        fit.min_by_key(|conn| conn.streams()).cloned()
    }

    /// Closes idle connections whose time is over, and gives idle ones up when another worker waits for room.
    pub(crate) fn sweep(&self) {
        if let Some(found) = self.resolver.known(&self.backend.host, self.backend.port) {
            self.keep_to(&found);
        }
        let wanted = self.cap.as_ref().is_some_and(|cap| cap.waiting.load(Ordering::Relaxed) > 0);
        let too_long = |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| since.elapsed() >= limit);
        self.idle.borrow_mut().retain_mut(|conn| {
            !wanted
                && !too_long(conn.idle_since, self.backend.idle_conn_timeout)
                && !self.is_old(conn.born)
                && conn.is_quiet()
        });
        self.shared.borrow_mut().retain(|conn| {
            let idle = conn.streams() == 0 && (wanted || too_long(conn.idle_since(), self.backend.idle_conn_timeout));
            conn.is_open() && !idle && !self.is_old(conn.born)
        });
    }
}

enum Turn {
    /// There is room for a new connection.
    Connect(Permit),
    /// A connection came back to this worker.
    Look,
}

/// Counts one waiting request, here and over the process.
struct Waiting<'a>(&'a Cell<usize>, &'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(here: &'a Cell<usize>, everywhere: &'a AtomicUsize) -> Waiting<'a> {
        here.set(here.get() + 1);
        everywhere.fetch_add(1, Ordering::Relaxed);
        Waiting(here, everywhere)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}
