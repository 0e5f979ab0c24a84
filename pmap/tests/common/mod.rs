//! What several tests ask.

use mirrorball_pmap::{PAGE_BYTES, Pmap};

/// Settles the books and compares them with the kernel's account: they agree to the byte.
///
/// # Panics
/// When they do not, or the kernel gives no account.
#[track_caller]
pub fn check_kernel(pmap: &Pmap) {
    pmap.settle_all();
    let (books, kernel) = (pmap.totals(), pmap.kernel_account().unwrap());
    assert_eq!(
        books.private * PAGE_BYTES,
        kernel.private_bytes,
        "private: {books:?} {kernel:?}"
    );
    assert_eq!(
        books.frames * PAGE_BYTES,
        kernel.frame_bytes,
        "frames: {books:?} {kernel:?}"
    );
}
