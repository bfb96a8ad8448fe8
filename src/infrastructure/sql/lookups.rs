//! Group reads: point queries that wait at the same time share one statement.
//!
//! The counterpart of the writer's group commit, and for the same reason: the round trip to a
//! database costs far more than finding one row more. No timer: a lone query is sent at once, a
//! thousand share a few statements.
//!
//! The task that sends is woken by the first query that comes, and would run before the requests that
//! have arrived with it are read. So it lets everybody else who can run go first, once: to do that
//! again would make statements larger still, and leave processors idle meanwhile.

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::application::ports::{Seen, StoreError};
use crate::domain::record::Head;
use crate::infrastructure::sql::tables::MAX_KEYS;

/// How many lookups share one statement at most.
const MAX_GROUP: usize = MAX_KEYS;
/// How many lookups may wait; a further one waits for its place, within its caller's time limit.
const MAX_WAITING: usize = 4_096;

/// Finds values by their keys, several at a time.
#[derive(Debug)]
pub struct Lookups<K, V> {
    queue: mpsc::Sender<Lookup<K, V>>,
}

#[derive(Debug)]
struct Lookup<K, V> {
    key: K,
    reply: oneshot::Sender<Result<Seen<V>, StoreError>>,
}

/// What one statement found.
#[derive(Debug)]
pub struct Found<V> {
    /// For each key, in their order. A value that cannot be read concerns only those who asked for it.
    pub values: Vec<Option<Result<V, StoreError>>>,
    /// The checkpoint at that moment.
    pub checkpoint: Head,
}

impl<K: Send + Sync + 'static, V: Send + 'static> Lookups<K, V> {
    /// Starts the task that sends the statements; it ends with the last handle. `read` finds what
    /// there is for the given keys; one that several ask for comes as often.
    pub fn start<R>(read: impl Fn(Vec<K>) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<Found<V>, StoreError>> + Send,
    {
        let (queue, mut waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(MAX_GROUP);
            while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
                gather(&mut group, &mut waiting).await;
                answer(&mut group, &read).await;
            }
        });
        Self { queue }
    }

    /// Finds one value, as it is at this moment or later.
    pub async fn find(&self, key: K) -> Result<Seen<V>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let ended = || StoreError::new("is closed", "the reading task has ended");
        self.queue.send(Lookup { key, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Takes in who else is about to ask.
async fn gather<K, V>(group: &mut Vec<Lookup<K, V>>, waiting: &mut mpsc::Receiver<Lookup<K, V>>) {
    yield_now().await;
    while group.len() < MAX_GROUP
        && let Ok(lookup) = waiting.try_recv()
    {
        group.push(lookup);
    }
}

async fn answer<K, V, R>(group: &mut Vec<Lookup<K, V>>, read: &impl Fn(Vec<K>) -> R)
where
    R: Future<Output = Result<Found<V>, StoreError>>,
{
    // A caller that gave up needs no row.
    group.retain(|lookup| !lookup.reply.is_closed());
    let (keys, replies): (Vec<_>, Vec<_>) = group.drain(..).map(|Lookup { key, reply }| (key, reply)).unzip();
    match read(keys).await {
        Ok(Found { values, checkpoint }) => {
            for (reply, value) in replies.into_iter().zip(values) {
                // The caller may have given up meanwhile.
                let _ = reply.send(value.transpose().map(|value| Seen { value, checkpoint }));
            }
        }
        Err(error) => replies.into_iter().for_each(|reply| _ = reply.send(Err(error.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::try_join_all;

    use super::*;

    /// Asks with so many tasks at once, each one more time after its answer; says how many statements
    /// that took. The database answers at once: what is shared is shared by gathering alone.
    async fn statements_for(clients: u32) -> usize {
        let statements = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&statements);
        let lookups = Arc::new(Lookups::start(move |keys: Vec<u32>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let values = keys.into_iter().map(|key| Some(Ok(key * 2))).collect();
            async { Ok(Found { values, checkpoint: Head::default() }) }
        }));
        let ask = |client: u32| {
            let lookups = Arc::clone(&lookups);
            async move {
                for key in [client, client + 1] {
                    assert_eq!(lookups.find(key).await.unwrap().value, Some(key * 2));
                }
            }
        };
        try_join_all((0..clients).map(|client| tokio::spawn(ask(client)))).await.unwrap();
        statements.load(Ordering::Relaxed)
    }

    /// One thread: how many threads take turns is the system's business.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn requests_that_arrive_together_share_a_statement() {
        assert_eq!(statements_for(1).await, 2, "a lone one waits for nobody");
        let shared = statements_for(64).await;
        assert!(shared <= 16, "{shared} statements for 128 lookups by 64 clients");
    }
}
