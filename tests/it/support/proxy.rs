//! A bad network: a proxy in front of a server that passes on, swallows, delays or resets, as the
//! test says at any time. It has a thread of its own, so a test that blocks does not halt it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::PATIENCE;
use crate::support::postgres::database::Database;

/// What happens to connections that are there and to those that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// A cut cable: connections are taken and bytes are read, and neither side hears anything of the
    /// other, not even its end. A connection that lost bytes stays mute for good.
    Drop,
    /// Whatever is sent arrives that much later.
    Delay(Duration),
    /// Connections are broken off at once.
    Reset,
}

/// More connections than that wait to be accepted.
const MAX_CONNECTIONS: usize = 500;

struct Shared {
    upstream_port: AtomicU16,
    connections: AtomicUsize,
    /// How many of them, the first ones, are forgotten.
    forgotten: AtomicUsize,
    lost_bytes: AtomicUsize,
}

pub struct Proxy {
    port: u16,
    /// Without it everything ends.
    mode: Option<watch::Sender<Mode>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of the server that has this database.
    pub fn to(database: &Database) -> Self {
        Self::to_port(database.tcp_port())
    }

    /// In front of whatever listens at this port.
    pub fn to_port(port: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Pass);
        let shared = Arc::new(Shared {
            upstream_port: port.into(),
            connections: 0.into(),
            forgotten: 0.into(),
            lost_bytes: 0.into(),
        });
        let sharing = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut end = seen.clone();
                tokio::select! {
                    () = accept(listener, seen, &sharing) => {}
                    _ = end.wait_for(|_| false) => {}
                }
            });
        });
        Self { port: own_port, mode: Some(mode), shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The way to a database through here.
    pub fn url(&self, database: &Database) -> String {
        database.url_at(self.port)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.as_ref().unwrap().send_replace(mode);
    }

    /// Sends connections that come from now on to the server of another database.
    pub fn lead_to(&self, database: &Database) {
        self.lead_to_port(database.tcp_port());
    }

    /// Sends connections that come from now on to another port.
    pub fn lead_to_port(&self, port: u16) {
        self.shared.upstream_port.store(port, Ordering::SeqCst);
    }

    /// What a firewall does that loses its memory: of the connections that are there, neither side
    /// ever hears anything of the other again, not even its end. New ones are not affected.
    pub fn forget_connections(&self) {
        self.shared.forgotten.store(self.connections(), Ordering::SeqCst);
    }

    /// How many connections have come so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes were swallowed so far, on their way in either direction.
    pub fn lost_bytes(&self) -> usize {
        self.shared.lost_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.mode.take());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn accept(listener: TcpListener, mode: watch::Receiver<Mode>, shared: &Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                let (client, _) = client.unwrap();
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                open.spawn_local(serve(client, number, mode.clone(), Arc::clone(shared)));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// One connection, from its beginning to its end.
async fn serve(mut client: TcpStream, number: usize, mut mode: watch::Receiver<Mode>, shared: Arc<Shared>) {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.upstream_port.load(Ordering::SeqCst)));
    let pumping_mode = mode.clone();
    let now = *mode.borrow();
    let mut server = match now {
        Mode::Reset => return reset(&client),
        Mode::Drop => None,
        Mode::Pass | Mode::Delay(_) => {
            let Ok(Ok(server)) = timeout(PATIENCE, TcpStream::connect(upstream)).await else { return reset(&client) };
            server.set_nodelay(true).unwrap();
            Some(server)
        }
    };
    client.set_nodelay(true).unwrap();
    let pumping = async {
        let Some(server) = &mut server else {
            // The server never heard of it.
            return swallow(&mut client, &shared).await;
        };
        let line = Line { number, mute: Cell::new(false), shared: &shared };
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::join!(
            pump(from_client, to_server, pumping_mode.clone(), &line),
            pump(from_server, to_client, pumping_mode.clone(), &line),
        );
    };
    tokio::select! {
        () = pumping => {}
        _ = mode.wait_for(|mode| *mode == Mode::Reset) => {
            reset(&client);
            server.iter().for_each(reset);
        }
    }
}

/// What both directions of a connection share.
struct Line<'s> {
    number: usize,
    mute: Cell<bool>,
    shared: &'s Shared,
}

impl Line<'_> {
    fn is_forgotten(&self) -> bool {
        self.number < self.shared.forgotten.load(Ordering::SeqCst)
    }
}

/// Reads what one side sends and hands it on to the other, as the mode of the moment has it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    line: &Line<'_>,
) {
    let mut buffer = vec![0; 16 << 10];
    // An end in error is an end too.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut now = *mode.borrow_and_update();
        if let Mode::Delay(delay) = now {
            let changed = tokio::select! {
                () = sleep(delay) => false,
                _ = mode.changed() => true,
            };
            now = if changed { *mode.borrow_and_update() } else { now };
        }
        if now == Mode::Drop || line.is_forgotten() {
            line.mute.set(true);
        }
        if line.mute.get() {
            line.shared.lost_bytes.fetch_add(count, Ordering::SeqCst);
        } else if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = mode.wait_for(|mode| *mode != Mode::Drop).await;
    if line.is_forgotten() {
        // Until the proxy ends, or resets everything.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}

async fn swallow(client: &mut TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        shared.lost_bytes.fetch_add(count, Ordering::SeqCst);
    }
}

/// Makes the end of a connection a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
