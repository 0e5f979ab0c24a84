//! A server's files for several threads: what is not in the buffer cache is asked for.
//!
//! The threads share one client. Each that waits looks at what has come, whoever it is for.

use super::client::{Client, Cluster, valid};
use super::{CLUSTER_BYTES, Kind, Message};
use crate::cache::{self, Held};
use crate::memory;
use crate::sched;
use crate::shared::{self, usize_of};
use crate::sync::Spin;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::with_exposed_provenance;
use mirrorball_abi::layout::PAGE_SIZE;

/// A cluster that came may be gone from the cache before its thread looks, but not so often.
const MOST_FETCHES: usize = 16;

/// A file of the server's.
#[derive(Clone, Debug)]
pub(in super::super) struct RemoteFile {
    /// Checksum of its path.
    pub(in super::super) name: u64,
    /// Bytes.
    pub(in super::super) size: u64,
    number: u32,
    /// Its first cluster's place among all clusters.
    place: usize,
}

/// A server's files.
#[derive(Debug)]
pub(in super::super) struct Mount {
    client: Spin<Client>,
}

impl Mount {
    /// Finds the server and what it has. So many threads can read at a time without waiting for each
    /// other.
    ///
    /// # Errors
    /// There is no network, no server that answers, or no memory.
    pub(in super::super) fn new(threads: usize) -> Result<(Self, Vec<RemoteFile>), String> {
        let mut client = Client::new(threads.clamp(1, 32) + 2)?;
        let mut files = Vec::new();
        let mut place = 0;
        for (number, name, size) in client.files()? {
            files.push(RemoteFile {
                name,
                size,
                number,
                place,
            });
            place += usize_of(size.div_ceil(CLUSTER_BYTES));
        }
        client.expect(place);
        let client = Spin::new(client);
        Ok((Self { client }, files))
    }

    /// Reads from the byte `at` of a file on, up to the end of `to` or of the file; answers how much
    /// that was. Less, when the guest is asked to stop.
    ///
    /// # Errors
    /// The server can't read its file, or does not answer.
    pub(in super::super) fn read(
        &self,
        file: &RemoteFile,
        at: u64,
        to: &mut [u8],
    ) -> Result<usize, String> {
        let mut done = 0;
        while done < to.len() {
            let at = at + done as u64;
            let left = file.size.saturating_sub(at);
            let (number, from) = (at / CLUSTER_BYTES, usize_of(at % CLUSTER_BYTES));
            let bytes = usize_of(left.min(CLUSTER_BYTES - from as u64)).min(to.len() - done);
            if bytes == 0 {
                break;
            }
            let cluster = Cluster {
                file: file.number,
                number: u32::try_from(number).unwrap_or(u32::MAX),
                place: file.place + usize_of(number),
            };
            let whole = CLUSTER_BYTES.min(file.size - number * CLUSTER_BYTES);
            let Some(held) = self.fetch(cluster, usize_of(whole).div_ceil(PAGE_SIZE))? else {
                break;
            };
            let start = held.address(0) + from;
            // SAFETY: the cluster is held, its pages are valid as far as the file goes, and nobody
            // writes to what came from the server.
            let data =
                unsafe { core::slice::from_raw_parts(with_exposed_provenance(start), bytes) };
            to[done..done + bytes].copy_from_slice(data);
            done += bytes;
        }
        Ok(done)
    }

    /// Tells the server that nothing more is needed.
    ///
    /// # Errors
    /// It does not answer.
    pub(in super::super) fn leave(&self) -> Result<(), String> {
        self.client.lock().leave()
    }

    /// Holds a cluster of so many pages, from the cache or from the server; `None` when the guest is
    /// asked to stop.
    fn fetch(&self, cluster: Cluster, pages: usize) -> Result<Option<Held>, String> {
        for _ in 0..MOST_FETCHES {
            if let Some(held) = cache::find(cluster.key(), valid(pages)) {
                return Ok(Some(held));
            }
            let message = Message {
                file: cluster.file,
                cluster: cluster.number,
                ..Message::new(Kind::Read, 0)
            };
            let request = self.client.lock().request(message, cluster.place);
            if !self.answered(request)? {
                return Ok(None);
            }
        }
        Err(format!(
            "the buffer cache is too small: {} pages are free",
            memory::available_pages()
        ))
    }

    /// Blocks until a request is answered; `false` when the guest is asked to stop.
    fn answered(&self, request: u32) -> Result<bool, String> {
        loop {
            let mut result = Ok(false);
            let deadline = self.client.lock().deadline();
            sched::block_until_or(deadline, || {
                let mut client = self.client.lock();
                let came = client.take_all();
                let waits = client.waits_for(request);
                drop(client);
                match came {
                    Ok((0, _)) => {}
                    // Some of it may be another thread's.
                    Ok(_) => sched::notify(),
                    Err(reason) => result = Err(reason),
                }
                !waits || result.is_err() || shared::stop_requested()
            });
            result?;
            let mut client = self.client.lock();
            if !client.waits_for(request) {
                return Ok(true);
            }
            if shared::stop_requested() {
                return Ok(false);
            }
            client.repeat()?;
        }
    }
}
