//! An allocator that counts, so that a target can panic when few bytes ask for much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

pub struct Counting;

fn count(size: usize) {
    let _ = ASKED.try_with(|asked| asked.set(asked.get().saturating_add(size)));
}

// SAFETY: all calls are passed on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `work`, which reads `input` bytes, and panics when it asked for more than 64 times as many and `extra` bytes.
pub fn within_budget<T>(input: usize, extra: usize, work: impl FnOnce() -> T) -> T {
    ASKED.with(|asked| asked.set(0));
    let result = work();
    let asked = ASKED.with(Cell::get);
    assert!(asked <= input * 64 + extra, "{input} bytes made it ask for {asked}");
    result
}
