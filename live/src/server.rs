//! The side of the process that runs the experiment.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::place::{Place, own_folder};
use crate::{LiveError, Message, Request, Snapshot};

/// More who watch at once than anyone needs; others are turned away.
const MOST_CLIENTS: usize = 16;
/// A request is far shorter.
const LONGEST_REQUEST: u64 = 4096;
/// One who takes no message for so long is let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does what is requested; says what was done, or why it was not.
type Handler = Box<dyn Fn(Request) -> Result<String, String> + Send + Sync>;

/// Where snapshots are laid down, and from where all who watch take them.
///
/// One lock protects the last snapshot; it is never held while something is written. Who publishes
/// waits for nobody.
#[derive(Default)]
pub struct Desk {
    last: Mutex<Last>,
    changed: Condvar,
    watchers: AtomicUsize,
    handler: Mutex<Option<Arc<Handler>>>,
}

#[derive(Default)]
struct Last {
    snapshot: Option<Arc<Snapshot>>,
    number: u64,
    ended: bool,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("watchers", &self.watchers)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Whether anybody watches: if not, no snapshot needs to be made.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Counts somebody who watches until [`Desk::leave`].
    pub fn join(&self) {
        self.watchers.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of [`Desk::join`].
    pub fn leave(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lays down how it goes now.
    pub fn publish(&self, snapshot: Snapshot) {
        let mut last = self.last();
        last.snapshot = Some(Arc::new(snapshot));
        last.number += 1;
        self.changed.notify_all();
    }

    /// What was published last.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.last().snapshot.clone()
    }

    /// Who does what is requested from now on; nobody between runs.
    pub fn handle(&self, handler: Option<Handler>) {
        *lock(&self.handler) = handler.map(Arc::new);
    }

    fn end(&self) {
        self.last().ended = true;
        self.changed.notify_all();
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        lock(&self.last)
    }

    /// The snapshot after that number, or `None` at the end.
    fn next(&self, seen: &mut u64) -> Option<Arc<Snapshot>> {
        let waiting = |last: &mut Last| !last.ended && last.number == *seen;
        let last = self
            .changed
            .wait_while(self.last(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if last.number == *seen {
            return None;
        }
        *seen = last.number;
        last.snapshot.clone()
    }

    fn answer(&self, request: Request) -> Result<String, String> {
        let handler = lock(&self.handler).clone();
        match handler {
            Some(handler) => handler(request),
            None => Err("between runs there is nothing to change".to_owned()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The socket of this process; gone when dropped.
#[derive(Debug)]
pub struct Server {
    place: Place,
    desk: Arc<Desk>,
}

impl Server {
    /// Lets this user watch what is laid down on `desk`.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn start(desk: &Arc<Desk>) -> Result<Self, LiveError> {
        let place = Place::ours(&own_folder()?);
        let failed = |error| LiveError::Socket {
            path: place.socket.clone(),
            error,
        };
        // A process that had this number and was killed left its socket.
        let _ = std::fs::remove_file(&place.socket);
        let listener = UnixListener::bind(&place.socket).map_err(failed)?;
        let shared = Arc::clone(desk);
        std::thread::Builder::new()
            .name("live".to_owned())
            .spawn(move || listen(&listener, &shared))
            .map_err(failed)?;
        let desk = Arc::clone(desk);
        Ok(Self { place, desk })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.desk.end();
        // Wakes the listening thread, which then sees the end.
        let _ = UnixStream::connect(&self.place.socket);
        let _ = std::fs::remove_file(&self.place.socket);
    }
}

fn listen(listener: &UnixListener, desk: &Arc<Desk>) {
    for stream in listener.incoming() {
        if desk.last().ended {
            return;
        }
        let Ok(stream) = stream else {
            // Out of file numbers, say: those who have one will give it back.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if desk.watchers.load(Ordering::Relaxed) >= MOST_CLIENTS {
            continue;
        }
        let served = Arc::clone(desk);
        let thread = std::thread::Builder::new().name("watcher".to_owned());
        let spawned = thread.spawn(move || {
            served.join();
            if let Err(error) = serve(stream, &served) {
                tracing::debug!(%error, "somebody who watched is gone");
            }
            served.leave();
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "nobody can watch");
        }
    }
}

/// Sends snapshots as they come; requests are read and answered by a thread of their own.
fn serve(stream: UnixStream, desk: &Arc<Desk>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let reader = stream.try_clone()?;
    let (answers, answering) = (Arc::clone(&writer), Arc::clone(desk));
    let thread = std::thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || requests(reader, &answers, &answering))?;
    let mut seen = 0;
    let sent = loop {
        let Some(snapshot) = desk.next(&mut seen) else {
            break Ok(());
        };
        let message = Message::Snapshot(Box::new(Snapshot::clone(&snapshot)));
        if let Err(error) = send(&writer, &message) {
            break Err(error);
        }
    };
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let _ = thread.join();
    sent
}

fn requests(reader: UnixStream, answers: &Mutex<UnixStream>, desk: &Desk) {
    let mut lines = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut lines, LONGEST_REQUEST).read_line(&mut line);
        if !matches!(read, Ok(bytes) if bytes > 0) {
            return;
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => desk.answer(request),
            Err(error) => Err(format!("not a request: {error}")),
        };
        if send(answers, &Message::Answer(answer)).is_err() {
            return;
        }
    }
}

fn send(stream: &Mutex<UnixStream>, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    lock(stream).write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Switch};

    /// A server in a folder of its own.
    fn server(folder: &std::path::Path) -> Server {
        let (place, desk) = (Place::ours(folder), Arc::<Desk>::default());
        let listener = UnixListener::bind(&place.socket).unwrap();
        let shared = Arc::clone(&desk);
        std::thread::spawn(move || listen(&listener, &shared));
        Server { place, desk }
    }

    fn wait(mut holds: impl FnMut() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it never came");
    }

    #[test]
    fn who_watches_sees_what_is_published_and_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        assert!(!server.desk.is_watched());
        let (mut client, mut messages) = Client::connect(&server.place).unwrap();
        wait(|| server.desk.is_watched());
        let snapshot = |runs| Snapshot {
            runs,
            ..Snapshot::default()
        };
        server.desk.publish(snapshot(7));
        let seen = messages.next().unwrap().unwrap();
        assert_eq!(seen, Message::Snapshot(Box::new(snapshot(7))));

        let off = Request::Switch(Switch::Zero, false);
        client.ask(&off).unwrap();
        let Message::Answer(Err(_)) = messages.next().unwrap().unwrap() else {
            panic!("there is nobody to do it");
        };
        let echo: Handler = Box::new(|request| Ok(format!("{request:?}")));
        server.desk.handle(Some(echo));
        client.ask(&off).unwrap();
        let done = messages.next().unwrap().unwrap();
        assert_eq!(done, Message::Answer(Ok(format!("{off:?}"))));

        let desk = Arc::clone(&server.desk);
        drop(server);
        assert!(messages.next().is_none(), "the run has ended");
        wait(|| !desk.is_watched());
    }

    #[test]
    fn one_who_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        let (_client, _unread) = Client::connect(&server.place).unwrap();
        wait(|| server.desk.is_watched());
        let large = Snapshot {
            experiment: "x".repeat(1 << 20),
            ..Snapshot::default()
        };
        for _ in 0..100 {
            server.desk.publish(large.clone());
        }
    }

    #[test]
    fn nonsense_is_answered_and_an_endless_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        let mut stream = UnixStream::connect(&server.place.socket).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        stream.write_all(b"{\"fly\":1}\n").unwrap();
        stream.write_all(&[b'x'; 10_000]).unwrap();
        let answers: Vec<_> = lines.lines().take(3).map(Result::unwrap).collect();
        assert!(answers.iter().all(|line| line.contains("not a request")));
    }
}
