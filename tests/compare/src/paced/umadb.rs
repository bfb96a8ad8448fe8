//! UmaDB is reached through its client, which wants a runtime: one thread for that, and one that paces,
//! because the timers of an async runtime are too coarse.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Failure;
use crate::load::{Answers, Parcel, ways};
use crate::paced::{PACE, Schedule, late};
use crate::server::Server;

pub async fn open_loop(
    server: &Server,
    lanes: Vec<Vec<Parcel>>,
    rate: f64,
) -> Result<(Answers, Vec<Duration>), Failure> {
    let ways = ways(server, lanes.len()).await?;
    let events = lanes.iter().map(Vec::len).sum();
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for (mut way, lane) in ways.into_iter().zip(lanes) {
        let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
        queues.push(queue);
        tasks.spawn(async move {
            let (mut answers, mut latencies) = (Answers::default(), Vec::with_capacity(lane.len()));
            for parcel in lane {
                let Some(due) = due.recv().await else { break };
                way.send(parcel, &mut answers).await?;
                latencies.push(due.elapsed());
            }
            Ok::<_, Failure>((answers, latencies))
        });
    }
    let schedule = Schedule { begin: Instant::now(), rate, events };
    let pacer = thread::spawn(move || pace(&queues, schedule));
    let (mut all, mut latencies) = (Answers::default(), Vec::with_capacity(events));
    let joined = async {
        while let Some(done) = tasks.join_next().await {
            let (answers, mut some) = done??;
            all.add(answers);
            latencies.append(&mut some);
        }
        Ok::<_, Failure>(())
    };
    timeout(schedule.patience(), joined).await.map_err(|_| late(server.kind.name()))??;
    all.took = schedule.begin.elapsed();
    pacer.join().map_err(|_| "the pacer ended early")?;
    Ok((all, latencies))
}

/// Tells one connection after the other that its next event is due.
fn pace(queues: &[mpsc::UnboundedSender<Instant>], schedule: Schedule) {
    let mut told = 0;
    while told < schedule.events {
        let due = schedule.due();
        for event in told..due {
            // A connection that failed takes no more; its task says why.
            let _ = queues[event % queues.len()].send(schedule.time_of(event));
        }
        told = due;
        thread::sleep(PACE);
    }
}
