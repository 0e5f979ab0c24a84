//! The swap protocol as a small model whose interleavings are all tried (loom).
//!
//! What the kernel makes atomic is one critical section here: an access finds a page or finds it
//! missing; a move takes a page away, and a copy puts one where none is, in one step. Who finds a page
//! missing waits for the pager: that is a call of `serve` by the toucher itself, between any two steps
//! of the others.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use loom::sync::{Arc, Mutex};

/// What the page holds at first; 0 is what is shown where nobody has content.
const CONTENT: u8 = 7;

struct Vm {
    table: Mutex<()>,
    /// The book: where the page's content is while it is missing.
    swap: Mutex<Option<u8>>,
    page: Mutex<Option<u8>>,
}

/// When the book's lock is taken, which is what the protocol is about.
#[derive(Clone, Copy, PartialEq)]
enum Lock {
    BeforeMoving,
    AfterMoving,
}

impl Vm {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(()),
            swap: Mutex::new(None),
            page: Mutex::new(Some(CONTENT)),
        })
    }

    /// The pager: what the book has, or zeros.
    fn serve(&self) {
        let mut book = self.swap.lock().unwrap();
        let content = book.take();
        let mut page = self.page.lock().unwrap();
        if page.is_none() {
            *page = Some(content.unwrap_or(0));
        }
    }

    /// A guest adds to the page's content, which takes an access that finds the page.
    fn touch(&self, add: u8) -> u8 {
        loop {
            {
                let mut page = self.page.lock().unwrap();
                if let Some(content) = &mut *page {
                    *content += add;
                    return *content;
                }
            }
            self.serve();
        }
    }

    /// The monitor swaps the page out; when the file can't be written, it goes back.
    fn swap_out(&self, lock: Lock, written: bool) {
        let _table = self.table.lock().unwrap();
        let early = (lock == Lock::BeforeMoving).then(|| self.swap.lock().unwrap());
        let taken = self.page.lock().unwrap().take();
        let mut book = early.unwrap_or_else(|| self.swap.lock().unwrap());
        let Some(content) = taken else { return };
        if written {
            *book = Some(content);
        } else {
            self.page.lock().unwrap().get_or_insert(content);
        }
    }

    /// A device lays something else over the page.
    fn map(&self, content: u8) {
        let _table = self.table.lock().unwrap();
        let mut book = self.swap.lock().unwrap();
        *self.page.lock().unwrap() = Some(content);
        *book = None;
    }
}

fn swap_and_touch(lock: Lock, written: bool) {
    loom::model(move || {
        let vm = Vm::new();
        let swapper = {
            let vm = Arc::clone(&vm);
            loom::thread::spawn(move || vm.swap_out(lock, written))
        };
        let other = {
            let vm = Arc::clone(&vm);
            loom::thread::spawn(move || vm.touch(1))
        };
        vm.touch(1);
        swapper.join().unwrap();
        other.join().unwrap();
        assert_eq!(vm.touch(0), CONTENT + 2, "content was lost");
    });
}

#[test]
fn no_content_is_lost_by_swapping() {
    swap_and_touch(Lock::BeforeMoving, true);
}

#[test]
fn no_content_is_lost_when_the_file_fails() {
    swap_and_touch(Lock::BeforeMoving, false);
}

#[test]
#[should_panic(expected = "content was lost")]
fn with_a_book_that_is_locked_too_late_content_is_lost() {
    swap_and_touch(Lock::AfterMoving, true);
}

#[test]
fn what_a_device_lays_over_a_page_is_not_undone_by_its_return() {
    loom::model(|| {
        let vm = Vm::new();
        vm.swap_out(Lock::BeforeMoving, true);
        let guest = {
            let vm = Arc::clone(&vm);
            loom::thread::spawn(move || vm.touch(0))
        };
        vm.map(50);
        guest.join().unwrap();
        assert_eq!(vm.touch(0), 50);
    });
}
