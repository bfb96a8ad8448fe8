//! A bad network: a proxy in front of PostgreSQL that passes on, swallows, delays or resets, as the
//! test says at any time. It has a thread of its own, so a test that blocks does not halt it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    lost_bytes: AtomicUsize,
}

pub struct Proxy {
    port: u16,
    /// Without it everything ends.
    mode: Option<watch::Sender<Mode>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of the server that has this database.
    pub fn to(database: &Database) -> Self {
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, database.tcp_port()));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Pass);
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut end = seen.clone();
                tokio::select! {
                    () = accept(listener, upstream, seen, &counting) => {}
                    _ = end.wait_for(|_| false) => {}
                }
            });
        });
        Self { port, mode: Some(mode), counts, thread: Some(thread) }
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

    /// How many connections have come so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many bytes were swallowed so far, on their way in either direction.
    pub fn lost_bytes(&self) -> usize {
        self.counts.lost_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.mode.take());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, mode: watch::Receiver<Mode>, counts: &Arc<Counts>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                let (client, _) = client.unwrap();
                counts.connections.fetch_add(1, Ordering::SeqCst);
                open.spawn_local(serve(client, upstream, mode.clone(), Arc::clone(counts)));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// One connection, from its beginning to its end.
async fn serve(mut client: TcpStream, upstream: SocketAddr, mut mode: watch::Receiver<Mode>, counts: Arc<Counts>) {
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
            return swallow(&mut client, &counts).await;
        };
        let line = Line { mute: Cell::new(false), counts: &counts };
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
struct Line<'c> {
    mute: Cell<bool>,
    counts: &'c Counts,
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
        if now == Mode::Drop {
            line.mute.set(true);
        }
        if line.mute.get() {
            line.counts.lost_bytes.fetch_add(count, Ordering::SeqCst);
        } else if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = mode.wait_for(|mode| *mode != Mode::Drop).await;
    let _ = to.shutdown().await;
}

async fn swallow(client: &mut TcpStream, counts: &Counts) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        counts.lost_bytes.fetch_add(count, Ordering::SeqCst);
    }
}

/// Makes the end of a connection a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
