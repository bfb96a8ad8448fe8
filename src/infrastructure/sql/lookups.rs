//! Group reads: point queries that wait at the same time share one statement.
//!
//! The counterpart of the writer's group commit, and for the same reason: the round trip to a
//! database costs far more than finding one row more. No timer: a lone query is sent at once, a
//! thousand share a few statements.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::sync::{mpsc, oneshot};

use crate::application::ports::{Seen, StoreError};
use crate::domain::record::Head;

/// How many lookups share one statement at most.
const MAX_GROUP: usize = 256;
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
pub struct Found<K, V> {
    /// A value that cannot be read concerns only those who asked for it.
    pub values: HashMap<K, Result<V, StoreError>>,
    /// The checkpoint at that moment.
    pub checkpoint: Head,
}

impl<K, V> Lookups<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts the task that sends the statements; it ends with the last handle. `read` finds what
    /// there is for the given keys, none of them twice.
    pub fn start<R>(read: impl Fn(Vec<K>) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<Found<K, V>, StoreError>> + Send,
    {
        let (queue, mut waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(MAX_GROUP);
            while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
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

async fn answer<K, V, R>(group: &mut Vec<Lookup<K, V>>, read: &impl Fn(Vec<K>) -> R)
where
    K: Eq + Hash + Clone,
    V: Clone,
    R: Future<Output = Result<Found<K, V>, StoreError>>,
{
    // A caller that gave up needs no row.
    group.retain(|lookup| !lookup.reply.is_closed());
    let mut keys: Vec<K> = group.iter().map(|lookup| lookup.key.clone()).collect();
    let mut seen = std::collections::HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.clone()));
    let found = read(keys).await;
    for Lookup { key, reply } in group.drain(..) {
        let seen = found.as_ref().map_err(StoreError::clone).and_then(|found| {
            let value = found.values.get(&key).cloned().transpose()?;
            Ok(Seen { value, checkpoint: found.checkpoint })
        });
        // The caller may have given up meanwhile.
        let _ = reply.send(seen);
    }
}
