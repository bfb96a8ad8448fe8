//! The life of a serving process: start, run, and one of two ends.
//!
//! *In order*, on SIGTERM or Ctrl-C: no new connections, what is under way is answered, the writer
//! commits what is queued, the projection is brought up to date, the stop is marked. *By failure*,
//! when the log cannot be written: clients learn it for a moment longer, then the process ends and
//! nothing more is written anywhere.
//!
//! A service that nobody can connect to lives in the same way for as long as an [`import`] takes.

pub mod import;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::application::archive::ArchiverThread;
use crate::application::ports::{LogFailure, Standing};
use crate::application::progress::Progress;
use crate::application::project::Projector;
use crate::application::writer::WriterThread;
use crate::composition::{self, Adapters, Service, StartError};
use crate::config::{Limits, ServerSettings, StorageSettings, millis};
use crate::domain::record::Head;
use crate::infrastructure::admin_socket;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError};
use crate::infrastructure::process::{cancel_on_signal, raise_descriptor_limit};
use crate::web;
use crate::web::admin::{self, Admin};
use crate::web::server::{self, ConnectionLimits};

/// How long a service whose log failed goes on answering 503, so that clients and load balancers
/// see it.
const FAILURE_LINGER: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`, on
/// Linux 4,096 too).
///
/// The library's 128 are fewer than the cabinets that come back together. Linux drops the SYNs of the
/// others, who try again after a second or more. Past as many half-open ones it admits some by a SYN
/// cookie before there is a place for them, drops the first data that they send, and answers what
/// they send next with a reset.
const WAITING_CONNECTIONS: u32 = 4_096;

/// How many may give orders at once; the next one waits.
const MAX_ORDERS: usize = 16;

/// The file descriptors that no client gets: the log and its next segment, the database's lines
/// (with SQLite three each) and those of a rebuild, the tables of the archive, the runtime, whatever the
/// system opens.
const RESERVED_DESCRIPTORS: u64 = 96;

/// Why the service ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot listen on {addr} (LOCKSTREAM_ADDR): {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("the signals of the system cannot be heard: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    LogFailed(#[from] LogFailure),
    #[error("the writer did not end in time; the next start finds out what it still wrote")]
    WriterStuck,
    #[error(transparent)]
    Mark(#[from] DataFolderError),
}

/// Serves until a signal, or until the log fails.
pub async fn serve(storage: &StorageSettings, settings: &ServerSettings, adapters: Adapters) -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    cancel_on_signal(&stop).map_err(ServeError::Signals)?;
    let listener = listen(settings.addr)?;
    run(listener, storage, settings, adapters, stop).await
}

/// Opens the port; to be called within the runtime. Connections wait there until the service has
/// recovered.
pub fn listen(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    let listening = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of a server that has just ended do not keep its port.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(WAITING_CONNECTIONS)
    };
    listening().map_err(|source| ServeError::Listen { addr, source })
}

/// Starts on a port that is already open and serves until `stop`.
pub async fn run(
    listener: TcpListener,
    storage: &StorageSettings,
    settings: &ServerSettings,
    adapters: Adapters,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let limits = &settings.limits;
    let max_connections = granted_connections(limits, raise_descriptor_limit());
    let service = match composition::start(storage, limits, adapters, &stop).await {
        Err(StartError::Stopped) => {
            info!("stopped before the log was read to its end; nothing was changed");
            return Ok(());
        }
        started => started?,
    };
    let Service { app, writer, archiver, projector, rebuilder, progress, folder, locks, start } = service;
    let stop_serving = CancellationToken::new();
    let orders = take_orders(
        &folder,
        limits,
        Admin { app: Arc::clone(&app), rebuilder, progress: Arc::clone(&progress), stop: stop_serving.clone() },
    );
    info!(
        addr = %listener.local_addr().unwrap_or(settings.addr),
        data_dir = %storage.data_dir.display(),
        database = %storage.database(),
        head_sequence = start.head_sequence.get(),
        projected_sequence = start.projected_sequence.get(),
        recovery_ms = start.recovery_ms,
        "serving",
    );
    let at_work = AtWork::begin(writer, archiver, projector, Arc::clone(&progress));
    let connections = ConnectionLimits {
        max_connections,
        head_timeout: millis(limits.head_timeout_ms),
        write_timeout: millis(limits.write_timeout_ms),
        stop_timeout: limits.stop_timeout(),
        keep_alive: true,
    };
    let serving = tokio::spawn(server::serve(listener, web::service(app), connections, stop_serving.clone()));

    tokio::select! {
        () = stop.cancelled() => info!("stopping: no new connections; what is under way is answered"),
        () = progress.wait_for_log_failure() => sleep(FAILURE_LINGER).await,
    }
    stop_serving.cancel();
    if !serving.await.expect("the server task does not panic") {
        warn!(limit_ms = limits.stop_timeout_ms, "some requests did not finish in time and were cut off");
    }
    let head = at_work.end(limits).await?;
    if let Some(orders) = orders {
        // The socket is gone before the next server can have the folder.
        orders.await.expect("the task that takes orders does not panic");
    }
    folder.mark_clean_stop(head)?;
    info!(head_sequence = head.sequence.get(), "stopped");
    drop(locks);
    Ok(())
}

/// The writer, and the archive and the projection that follow it.
struct AtWork {
    writer: WriterThread,
    archiver: ArchiverThread,
    following: JoinHandle<Projector>,
    progress: Arc<Progress>,
}

impl AtWork {
    fn begin(writer: WriterThread, archiver: ArchiverThread, projector: Projector, progress: Arc<Progress>) -> Self {
        let queue = writer.queue.clone();
        let following = tokio::spawn(async move {
            projector.follow(&queue).await;
            projector
        });
        Self { writer, archiver, following, progress }
    }

    /// Has the writer commit what is queued and the projection take it in.
    async fn end(self, limits: &Limits) -> Result<Head, ServeError> {
        let Self { writer, archiver, following, progress } = self;
        // Before the writer, which it talks to.
        if timeout(limits.stop_timeout(), archiver.stop()).await.is_err() {
            warn!("the archiver did not end in time; the next start does what it left");
        }
        let end_of_writer = async {
            writer.queue.clone().stop().await;
            writer.ended().await
        };
        let remains = timeout(limits.stop_timeout(), end_of_writer).await.map_err(|_| ServeError::WriterStuck)??;

        let flush = async {
            let projector = following.await.expect("the projection task does not panic");
            let standing = projector.write(&remains.rows, remains.head).await;
            projector.projection.close().await;
            standing
        };
        if timeout(limits.stop_timeout(), flush).await != Ok(Standing::AsLeft) {
            warn!(
                lag_events = progress.lag_events(),
                "the projection could not be brought up to date; the next start will"
            );
        }
        Ok(remains.head)
    }
}

/// Serves the orders of whoever runs the service until that stops. A folder on a file system that
/// knows no sockets costs the orders and nothing else.
fn take_orders(folder: &DataFolder, limits: &Limits, admin: Admin) -> Option<JoinHandle<()>> {
    let connections = ConnectionLimits {
        max_connections: MAX_ORDERS,
        head_timeout: millis(limits.head_timeout_ms),
        write_timeout: millis(limits.write_timeout_ms),
        stop_timeout: limits.stop_timeout(),
        keep_alive: false,
    };
    let path = folder.admin_socket();
    let listener = match admin_socket::listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, path = %path.display(), "no orders can be taken; a rebuild or a backup needs a stop");
            return None;
        }
    };
    let stop = admin.stop.clone();
    Some(tokio::spawn(async move {
        server::serve(listener, TowerToHyperService::new(admin::router(admin)), connections, stop).await;
        // What is left of it says nothing; the next start removes it.
        let _ = std::fs::remove_file(path);
    }))
}

/// How many connections there may be, so that clients never take the descriptor without which the
/// log cannot go on.
fn granted_connections(limits: &Limits, descriptors: Option<u64>) -> usize {
    let left = descriptors.map_or(u64::MAX, |descriptors| descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1));
    let granted = usize::try_from(left).unwrap_or(usize::MAX).min(limits.max_connections);
    if granted < limits.max_connections {
        warn!(
            granted,
            limit = limits.max_connections,
            descriptors,
            reserved = RESERVED_DESCRIPTORS,
            "fewer connections than set: the system gives this process too few file descriptors"
        );
    }
    granted
}
