//! The bad network of the tests: that it does to a connection what its modes say.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::postgres::Cluster;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{PATIENCE, eventually};

/// Longer than an answer usually takes, and short enough to wait for nothing. An answer that has to
/// come is waited for with patience.
const A_WHILE: Duration = Duration::from_millis(300);

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(timeout(PATIENCE, connection.execute("SELECT 1")).await, Ok(Ok(_)))
}

#[tokio::test]
async fn a_cut_silences_what_is_there_and_what_comes_until_it_is_mended() {
    let database = Cluster::shared().create_database();
    let proxy = Proxy::to(&database);
    let mut connection = PgConnection::connect(&proxy.url(&database)).await.unwrap();
    let mut idle = PgConnection::connect(&proxy.url(&database)).await.unwrap();
    assert!(answers(&mut connection).await);

    proxy.set(Mode::Drop);
    assert!(timeout(A_WHILE, connection.execute("SELECT 1")).await.is_err(), "neither an answer nor an end");
    drop(connection);
    assert!(timeout(A_WHILE, PgConnection::connect(&proxy.url(&database))).await.is_err());
    assert_eq!(proxy.connections(), 3);
    // Meanwhile the server did not hear that its client is gone.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
                    backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_eq!(database.value::<i64>(sessions).await, 2);

    proxy.set(Mode::Pass);
    assert!(answers(&mut idle).await, "a connection that lost nothing goes on");
    let mut fresh = PgConnection::connect(&proxy.url(&database)).await.unwrap();
    assert!(answers(&mut fresh).await);
    eventually("the server hears of it", async || database.value::<i64>(sessions).await == 2).await;
}

#[tokio::test]
async fn a_connection_that_lost_bytes_stays_mute() {
    // What every client may begin with: whether the server speaks TLS. The answer is one letter.
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    let database = Cluster::shared().create_database();
    let proxy = Proxy::to(&database);
    for cut in [false, true] {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        stream.write_all(&request).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
        if cut {
            proxy.set(Mode::Drop);
            stream.write_all(&request).await.unwrap();
            eventually("the request is lost", async || proxy.lost_bytes() == request.len()).await;
            proxy.set(Mode::Pass);
        }
        stream.write_all(&request).await.unwrap();
        let answer = timeout(if cut { A_WHILE } else { PATIENCE }, stream.read_u8()).await;
        assert_eq!(answer.is_err(), cut, "{answer:?}");
    }
}

#[tokio::test]
async fn a_reset_breaks_off_what_is_there_and_what_comes() {
    let database = Cluster::shared().create_database();
    let proxy = Proxy::to(&database);
    let mut connection = PgConnection::connect(&proxy.url(&database)).await.unwrap();
    assert!(answers(&mut connection).await);
    proxy.set(Mode::Reset);
    for error in [
        connection.execute("SELECT 1").await.map(drop).unwrap_err(),
        PgConnection::connect(&proxy.url(&database)).await.map(drop).unwrap_err(),
    ] {
        let sqlx::Error::Io(error) = error else { panic!("not the network: {error:?}") };
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error:?}");
    }
    proxy.set(Mode::Pass);
    assert!(answers(&mut PgConnection::connect(&proxy.url(&database)).await.unwrap()).await);
}

#[tokio::test]
async fn a_delay_is_waited_for_and_ends_with_its_mode() {
    let database = Cluster::shared().create_database();
    let proxy = Proxy::to(&database);
    let mut connection = PgConnection::connect(&proxy.url(&database)).await.unwrap();
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    let begin = Instant::now();
    connection.execute("SELECT 1").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200), "once there, once back: {:?}", begin.elapsed());
    proxy.set(Mode::Delay(Duration::from_secs(3_600)));
    let mut asking = Box::pin(connection.execute("SELECT 1"));
    assert!(timeout(A_WHILE, &mut asking).await.is_err());
    proxy.set(Mode::Pass);
    asking.await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_is_dropped_ends_its_connections() {
    let database = Cluster::shared().create_database();
    let proxy = Proxy::to(&database);
    let url = proxy.url(&database);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    proxy.set(Mode::Drop);
    drop(proxy);
    assert!(timeout(PATIENCE, connection.execute("SELECT 1")).await.is_ok_and(|answer| answer.is_err()));
    assert!(PgConnection::connect(&url).await.is_err());
}
