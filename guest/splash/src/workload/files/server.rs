//! The server: files of the first disk, out of the buffer cache.

use super::super::Job;
use super::{CLUSTER, CLUSTER_BYTES, Kind, Message};
use crate::cache::{self, Held};
use crate::console;
use crate::fs;
use crate::hash;
use crate::memory::{self, Region};
use crate::net::{self, EVERYBODY, MESSAGE, MOST_PAGES, Mac, Net, Received};
use crate::pages::LANE;
use crate::port;
use crate::shared::{self, BYTES, CHECKSUM, OPERATIONS, usize_of};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use mirrorball_abi::layout::PAGE_SIZE;

const DISK: usize = 0;
/// The parameter's value for all files; the other is for all but the table.
const ALL: u64 = 1;
/// Lanes that wait for requests.
const LANES: usize = 8;
/// Answers that are under way at a time.
const MOST_SENDING: usize = 16;
/// How long a server waits for somebody else when all who came have gone.
const LINGER_MS: u64 = 300;
/// The same when somebody has come and never said goodbye: it may be nobody's client.
const FORGET_MS: u64 = 10_000;

/// A file that is served.
#[derive(Debug)]
struct File {
    size: u64,
    /// Checksum of its path.
    name: u64,
    /// The disk's block of each page of the file; `None` for holes.
    blocks: Vec<Option<u64>>,
    /// The checksum of each cluster.
    sums: Vec<u64>,
}

/// An answer under way: what it keeps in its place.
#[derive(Debug)]
struct Answer {
    _held: Vec<Held>,
}

struct Server {
    net: Net,
    files: Vec<File>,
    /// What holes read as.
    zeros: Region,
    /// Answers by the address of their first page, in the order in which they were sent.
    answers: Vec<(usize, Answer)>,
    came: BTreeSet<Mac>,
    gone: BTreeSet<Mac>,
}

pub(in super::super) fn run(job: &Job) -> Result<(), String> {
    let (clients, most) = (job.count(0, 1), job.param(1, u64::MAX));
    let mut server = Server {
        net: net::open()?,
        files: catalogue(most, job.param(2, ALL) == ALL)?,
        zeros: zeros()?,
        answers: Vec::new(),
        came: BTreeSet::new(),
        gone: BTreeSet::new(),
    };
    for _ in 0..LANES {
        server.lend(memory::take_lane().ok_or("no memory for packets")?);
    }
    let [linger, forget] = [LINGER_MS, FORGET_MS].map(|time| time * shared::ticks_per_ms());
    let mut quiet = port::ticks();
    while !shared::stop_requested() {
        let now = port::ticks();
        let all_gone = server.gone.len() >= server.came.len();
        let patience = if all_gone { linger } else { forget };
        if server.gone.len() >= clients && now.saturating_sub(quiet) > patience {
            break;
        }
        server.net.wait(now + linger);
        while let Some(address) = server.net.sent() {
            server.sent(address);
        }
        while server.answers.len() < MOST_SENDING
            && let Some(received) = server.net.take()
        {
            if server.serve(received)? {
                quiet = port::ticks();
            }
        }
    }
    // What is under way keeps its pages until the device has let go of them.
    while server.net.sending() > 0 && !shared::stop_requested() {
        server.net.wait(port::ticks() + linger);
        while server.net.sent().is_some() {}
    }
    console::line(format_args!(
        "fileserver: {} clients, {} clusters",
        server.came.len(),
        OPERATIONS.get()
    ));
    Ok(())
}

fn zeros() -> Result<Region, String> {
    let region = Region::new(1).ok_or("no memory for a page")?;
    memory::copy_in(region.page(0), &[0; PAGE_SIZE]);
    Ok(region)
}

/// Finds the files, their blocks and their checksums: up to `most` bytes, with the table or without.
fn catalogue(most: u64, table: bool) -> Result<Vec<File>, String> {
    let located = fs::open_located(DISK)?;
    let mut left = most;
    let mut files = Vec::new();
    let mut all = hash::Sum::new(0);
    let mut entries = fs::files(&located.view)?;
    // Stable: files of one size stay in the order of their paths.
    entries.sort_by_key(|entry| core::cmp::Reverse(entry.size));
    entries.retain(|entry| table || fs::path_bytes(entry) != fs::TABLE);
    for entry in entries {
        // A file that is cut is cut between pages.
        let size = if entry.size <= left {
            entry.size
        } else {
            left - left % PAGE_SIZE as u64
        };
        if size == 0 {
            continue;
        }
        left -= size;
        let file = file(&located, &entry, size)?;
        file.sums.iter().for_each(|sum| all.word(*sum));
        files.push(file);
    }
    CHECKSUM.set(all.value());
    Ok(files)
}

fn file(located: &fs::Located, entry: &fs::Entry, size: u64) -> Result<File, String> {
    let mut open = (located.view)
        .open(&entry.path)
        .map_err(|error| fs::describe(&error))?;
    let (mut blocks, mut sums) = (Vec::new(), Vec::new());
    let mut cluster = vec![0; usize_of(CLUSTER_BYTES)];
    let mut page = [0; PAGE_SIZE];
    let mut done = 0;
    while done < size {
        let bytes = CLUSTER_BYTES.min(size - done);
        for place in cluster[..usize_of(bytes)].chunks_mut(PAGE_SIZE) {
            let block = located.next_block(&mut open, place.len() as u64, &mut page)?;
            blocks.push(block);
            place.copy_from_slice(&page[..place.len()]);
        }
        sums.push(hash::bytes(&cluster[..usize_of(bytes)]));
        done += bytes;
    }
    Ok(File {
        size,
        name: hash::bytes(fs::path_bytes(entry)),
        blocks,
        sums,
    })
}

impl Server {
    /// Gives a lane to the device.
    fn lend(&mut self, lane: usize) {
        // SAFETY: the lane was taken for this, or has come back from the device; nobody else has it.
        if let Some(lane) = unsafe { self.net.post(lane) } {
            memory::give(lane, LANE);
        }
    }

    fn sent(&mut self, address: usize) {
        let answer = self.answers.iter().position(|(first, _)| *first == address);
        if let Some(answer) = answer {
            self.answers.remove(answer);
        }
    }

    /// Answers one request; `false` for what is none.
    fn serve(&mut self, received: Received) -> Result<bool, String> {
        self.lend(received.lane);
        let Some(request) = Message::decode(&received.message) else {
            return Ok(false);
        };
        let file = self.files.get(usize_of(request.file.into()));
        let answer = match (request.kind, file) {
            (Kind::Hello, _) => {
                self.came.insert(received.from);
                Some((Kind::Welcome, self.files.len() as u64))
            }
            (Kind::Size, Some(file)) => {
                let sized = Message {
                    kind: Kind::Sized,
                    bytes: file.size,
                    value: file.name,
                    ..request
                };
                self.send(received.from, sized, &[]);
                None
            }
            (Kind::Read, Some(_)) => {
                self.answer_read(received.from, request)?;
                None
            }
            (Kind::Size | Kind::Read, None) => Some((Kind::Failed, 0)),
            (Kind::Bye, _) => {
                // Who never came takes nobody's place.
                if self.came.contains(&received.from) {
                    self.gone.insert(received.from);
                }
                Some((Kind::Gone, 0))
            }
            _ => return Ok(false),
        };
        if let Some((kind, value)) = answer {
            let answer = Message {
                kind,
                value,
                ..request
            };
            self.send(received.from, answer, &[]);
        }
        Ok(true)
    }

    fn answer_read(&mut self, to: Mac, request: Message) -> Result<(), String> {
        let file = self.files.get(usize_of(request.file.into()));
        let cluster = u64::from(request.cluster);
        let first = usize_of(cluster * CLUSTER);
        let known = file.and_then(|file| {
            let sum = *file.sums.get(usize_of(cluster))?;
            let blocks = file.blocks.iter().skip(first).take(MOST_PAGES);
            let bytes = CLUSTER_BYTES.min(file.size - cluster * CLUSTER_BYTES);
            Some((sum, bytes, blocks.copied().collect::<Vec<_>>()))
        });
        let Some((value, bytes, blocks)) = known else {
            let answer = Message {
                kind: Kind::Failed,
                ..request
            };
            self.send(to, answer, &[]);
            return Ok(());
        };
        let (mut held, mut pages) = (Vec::new(), Vec::new());
        for block in blocks {
            let page = match block {
                None => self.zeros.address(),
                Some(block) => {
                    let cluster = cache::hold(DISK, block);
                    let cluster = cluster.map_err(|error| format!("{error}"))?;
                    let page = cluster.address(block);
                    held.push(cluster);
                    page
                }
            };
            pages.push(page);
        }
        let answer = Message {
            kind: Kind::Data,
            bytes,
            value,
            ..request
        };
        if self.send(to, answer, &pages) {
            let first = pages.first().copied().unwrap_or(0);
            self.answers.push((first, Answer { _held: held }));
            OPERATIONS.increase(1);
            BYTES.increase(bytes);
        }
        Ok(())
    }

    /// Sends an answer; one that finds no room is lost, and asked for again.
    fn send(&mut self, to: Mac, message: Message, pages: &[usize]) -> bool {
        let raw: [u8; MESSAGE] = message.encode();
        debug_assert_ne!(to, EVERYBODY);
        // SAFETY: the pages are held in the cache, or zeros that nobody writes, until they are sent.
        unsafe { self.net.send(to, &raw, pages) }
    }
}
