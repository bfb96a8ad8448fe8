//! Over HTTP: one thread, without an async runtime.
//!
//! With a runtime, and a thread that told its tasks what was due, this took 18 µs of processor time for
//! an event where it takes 12 now, and the service beside it had a p99 of 13 to 17 ms where it has 7 to 11.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::retry_on_intr;

use crate::Failure;
use crate::http::whole_answer;
use crate::load::{Answers, PAUSE, Parcel};
use crate::paced::{PACE, Schedule, late};

/// How much of an answer is read at once; those that are expected here have 0.5 KiB.
const READ_BYTES: usize = 4 << 10;
/// How many connections are looked at in one turn.
const READY: usize = 256;

/// A connection with what it is to send.
struct Sender {
    stream: TcpStream,
    parcels: std::vec::IntoIter<Parcel>,
    /// When those were due that wait for the answer to another one.
    waiting: VecDeque<Instant>,
    asked: Option<Asked>,
    answer: Vec<u8>,
}

/// What is under way.
struct Asked {
    request: Vec<u8>,
    due: Instant,
    /// When it is to be sent again; the server said: not now.
    again: Option<Instant>,
}

impl Sender {
    fn open(addr: SocketAddr, parcels: Vec<Parcel>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let parcels = parcels.into_iter();
        Ok(Self { stream, parcels, waiting: VecDeque::new(), asked: None, answer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends the next one, if one is due and none is under way.
    fn go_on(&mut self) -> Result<(), Failure> {
        if self.asked.is_some() {
            return Ok(());
        }
        let Some(due) = self.waiting.pop_front() else { return Ok(()) };
        let Some(Parcel::Http(request, 1)) = self.parcels.next() else {
            return Err("no single event is left to send".into());
        };
        send(&mut self.stream, &request)?;
        self.asked = Some(Asked { request, due, again: None });
        Ok(())
    }

    fn send_again(&mut self, now: Instant) -> Result<(), Failure> {
        if let Some(Asked { request, again, .. }) = &mut self.asked
            && again.take_if(|again| *again <= now).is_some()
        {
            send(&mut self.stream, request)?;
        }
        Ok(())
    }

    /// Reads what is there; the latency, if that was the end of an answer that settles the matter.
    fn read(&mut self, answers: &mut Answers) -> Result<Option<Duration>, Failure> {
        let mut piece = [0; READ_BYTES];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(read) => self.answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some((status, body)) = whole_answer(&self.answer)? else { return Ok(None) };
        let Some(mut asked) = self.asked.take() else { return Err("an answer to nothing".into()) };
        let latency = match status {
            503 => {
                answers.put_off += 1;
                asked.again = Some(Instant::now() + PAUSE);
                self.asked = Some(asked);
                None
            }
            200 | 202 => {
                answers.accepted += 1;
                Some(asked.due.elapsed())
            }
            _ => {
                answers.refuse(1, || format!("{status} {}", String::from_utf8_lossy(body)));
                Some(asked.due.elapsed())
            }
        };
        self.answer.clear();
        Ok(latency)
    }
}

/// All of a request at once: it is far smaller than what a socket takes.
fn send(stream: &mut TcpStream, request: &[u8]) -> Result<(), Failure> {
    if stream.write(request)? == request.len() { Ok(()) } else { Err("a request went out in part".into()) }
}

pub fn open_loop(
    who: &str,
    addr: SocketAddr,
    lanes: Vec<Vec<Parcel>>,
    rate: f64,
) -> Result<(Answers, Vec<Duration>), Failure> {
    let events = lanes.iter().map(Vec::len).sum();
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut senders = Vec::with_capacity(lanes.len());
    for (number, parcels) in lanes.into_iter().enumerate() {
        let sender = Sender::open(addr, parcels)?;
        epoll::add(&ready, &sender.stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        senders.push(sender);
    }
    let schedule = Schedule { begin: Instant::now(), rate, events };
    let (mut all, mut latencies) = (Answers::default(), Vec::with_capacity(events));
    let (mut told, mut answered) = (0, Vec::with_capacity(READY));
    while latencies.len() < schedule.events {
        let turn = Instant::now();
        let due = schedule.due();
        for event in told..due {
            let number = event % senders.len();
            senders[number].waiting.push_back(schedule.time_of(event));
            senders[number].go_on()?;
        }
        told = due;
        if all.put_off > 0 {
            senders.iter_mut().try_for_each(|sender| sender.send_again(turn))?;
        }
        answered.clear();
        retry_on_intr(|| epoll::wait(&ready, spare_capacity(&mut answered), Some(&Timespec::default())))?;
        for answer in &answered {
            let sender = &mut senders[answer.data.u64() as usize];
            latencies.extend(sender.read(&mut all)?);
            sender.go_on()?;
        }
        if turn - schedule.begin > schedule.patience() {
            return Err(late(who));
        }
        thread::sleep(PACE.saturating_sub(turn.elapsed()));
    }
    all.took = schedule.begin.elapsed();
    Ok((all, latencies))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::http::request;

    /// Gives one connection these answers, one for each request, the second one in two pieces.
    fn answering(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let addr = listener.local_addr().expect("it has an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut request = [0; 1_000];
            for (number, answer) in answers.iter().enumerate() {
                if stream.read(&mut request)? == 0 {
                    break;
                }
                let (first, rest) = answer.split_at(if number == 1 { 20 } else { 0 });
                stream.write_all(first.as_bytes())?;
                // Longer than until the next look: the rest comes by itself.
                thread::sleep(8 * PACE);
                stream.write_all(rest.as_bytes())?;
            }
            std::io::Result::Ok(())
        });
        addr
    }

    fn asked(addr: SocketAddr, events: usize, rate: f64) -> Result<(Answers, Vec<Duration>), Failure> {
        let parcel = || Parcel::Http(request("POST", "/events", "application/json", "{}"), 1);
        open_loop("the server", addr, vec![std::iter::repeat_with(parcel).take(events).collect()], rate)
    }

    const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
    const NOT_NOW: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    const REFUSED: &str = "HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno";

    #[test]
    fn what_is_due_is_sent_in_its_time_and_counted() {
        let (answers, latencies) = asked(answering(&[ACCEPTED, ACCEPTED, REFUSED]), 3, 100.0).expect("it answers");
        assert_eq!((answers.accepted, answers.refused, latencies.len()), (2, 1, 3));
        assert_eq!(answers.first_refusal.as_deref(), Some("409 no"));
        assert!(answers.took >= Duration::from_millis(20), "the third is due after 20 ms: {:?}", answers.took);
    }

    #[test]
    fn what_is_put_off_is_sent_again_and_its_latency_counts_from_the_first_time() {
        let (answers, latencies) = asked(answering(&[NOT_NOW, ACCEPTED]), 1, 1.0).expect("it answers");
        assert_eq!((answers.accepted, answers.put_off), (1, 1));
        assert!(latencies[0] >= PAUSE, "{latencies:?}");
        assert!(answers.took < Duration::from_secs(1), "the first one is due at once: {:?}", answers.took);
    }

    #[test]
    fn a_server_that_goes_away_ends_it_at_once() {
        // The next is due long after the end of the connection.
        let gone = asked(answering(&[ACCEPTED]), 2, 20.0).expect_err("it answers once");
        assert_eq!(gone.to_string(), "the server closed a connection");
    }
}
