//! Views of NHWC memory: a pointer, four sizes and the distance between pixels.
//!
//! A view's pixels stand `ld >= c` floats apart, so a branch of a concatenation is a view of some channels of a
//! wider buffer. Because such branches interleave in memory, a view holds a pointer and not a slice; the
//! lifetime keeps the buffer borrowed.

use std::marker::PhantomData;

/// Why a slice cannot hold the view asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewError {
    /// The distance between pixels is smaller than a pixel.
    PixelStride {
        /// Floats from one pixel to the next.
        ld: usize,
        /// Channels of a pixel.
        channels: usize,
    },
    /// The slice is too short.
    Length {
        /// Floats that the shape needs.
        expected: usize,
        /// Floats that the slice has.
        received: usize,
    },
    /// The number of floats does not fit into a `usize`.
    Overflow([usize; 4]),
}

impl std::fmt::Display for ViewError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PixelStride { ld, channels } => {
                write!(f, "Expected a pixel stride of at least {channels} but received {ld}.")
            }
            Self::Length { expected, received } => {
                write!(f, "Expected at least {expected} floats but received {received}.")
            }
            Self::Overflow(shape) => write!(f, "The shape {shape:?} has too many elements."),
        }
    }
}

impl std::error::Error for ViewError {}

/// Floats from the first to the last of a view, inclusive.
fn extent([n, h, w, c]: [usize; 4], ld: usize) -> Result<usize, ViewError> {
    if ld < c {
        return Err(ViewError::PixelStride { ld, channels: c });
    }
    let pixels = n.checked_mul(h).and_then(|p| p.checked_mul(w)).ok_or(ViewError::Overflow([n, h, w, c]))?;
    if pixels == 0 || c == 0 {
        return Ok(0);
    }
    let before_last = (pixels - 1).checked_mul(ld).ok_or(ViewError::Overflow([n, h, w, c]))?;
    before_last.checked_add(c).ok_or(ViewError::Overflow([n, h, w, c]))
}

macro_rules! view {
    ($(#[$documentation:meta])* $name:ident, $pointer:ty, $slice:ty, $as_pointer:ident) => {
        $(#[$documentation])*
        #[derive(Debug)]
        pub struct $name<'a> {
            pointer: $pointer,
            shape: [usize; 4],
            ld: usize,
            borrow: PhantomData<&'a f32>,
        }

        // SAFETY: a view is a borrow of floats, as a slice is.
        unsafe impl Send for $name<'_> {}
        // SAFETY: through a shared view nothing is written or read without an unsafe block, in which the
        // kernels give each thread its own part of what is written.
        unsafe impl Sync for $name<'_> {}

        impl<'a> $name<'a> {
            /// A view of `data`, shape `[n, h, w, c]`, pixels `ld` floats apart.
            pub fn new(data: $slice, shape: [usize; 4], ld: usize) -> Result<Self, ViewError> {
                let (expected, received) = (extent(shape, ld)?, data.len());
                if received < expected {
                    return Err(ViewError::Length { expected, received });
                }
                Ok(Self { pointer: data.$as_pointer(), shape, ld, borrow: PhantomData })
            }

            /// A view of memory that is not one slice of its own: a part of an arena, some channels of a
            /// buffer.
            ///
            /// # Safety
            /// For the lifetime, `pointer` is valid for every element `[n, h, w, c]` at a pixel stride of
            /// `ld >= c`, and nobody writes what the view reads, or reads or writes what the view writes, save
            /// through a view given to the same call of an operation that says it works in place.
            pub unsafe fn from_raw(pointer: $pointer, shape: [usize; 4], ld: usize) -> Self {
                debug_assert!(ld >= shape[3]);
                Self { pointer, shape, ld, borrow: PhantomData }
            }

            /// Every pixel as an image of its own, `[n h w, 1, 1, c]`.
            pub fn by_pixel(self) -> Self {
                let [n, h, w, c] = self.shape;
                Self { shape: [n * h * w, 1, 1, c], ..self }
            }

            /// Images.
            #[inline(always)]
            pub fn n(&self) -> usize {
                self.shape[0]
            }

            /// Rows.
            #[inline(always)]
            pub fn h(&self) -> usize {
                self.shape[1]
            }

            /// Columns.
            #[inline(always)]
            pub fn w(&self) -> usize {
                self.shape[2]
            }

            /// Channels.
            #[inline(always)]
            pub fn c(&self) -> usize {
                self.shape[3]
            }

            /// Floats from one pixel to the next.
            #[inline(always)]
            pub fn ld(&self) -> usize {
                self.ld
            }

            /// `[n, h, w, c]`.
            #[inline(always)]
            pub fn shape(&self) -> [usize; 4] {
                self.shape
            }

            /// Pixels of all images.
            #[inline(always)]
            pub fn pixels(&self) -> usize {
                self.shape[0] * self.shape[1] * self.shape[2]
            }

            /// Whether the pixels stand side by side.
            #[inline(always)]
            pub fn is_dense(&self) -> bool {
                self.ld == self.shape[3]
            }

            /// The first float.
            #[inline(always)]
            pub fn pointer(&self) -> $pointer {
                self.pointer
            }

            /// The first float of a pixel, counted over all images; in bounds when `pixel < pixels()`.
            #[inline(always)]
            pub fn pixel(&self, pixel: usize) -> $pointer {
                self.pointer.wrapping_add(pixel * self.ld)
            }
        }
    };
}

view!(
    /// A view that is read.
    #[derive(Clone, Copy)]
    View4,
    *const f32,
    &'a [f32],
    as_ptr
);
view!(
    /// A view that is written. Threads share it by reference; a kernel gives each its own elements.
    ViewMut4,
    *mut f32,
    &'a mut [f32],
    as_mut_ptr
);

impl<'a> ViewMut4<'a> {
    /// The same memory, to be read as long as this view is not given away.
    pub fn as_view(&self) -> View4<'_> {
        View4 { pointer: self.pointer, shape: self.shape, ld: self.ld, borrow: PhantomData }
    }

    /// The same memory twice, to be read and written by an operation that works in place.
    ///
    /// # Safety
    /// Both go to one call of an operation that says that the one may be the memory of the other, and nowhere
    /// else.
    pub unsafe fn in_place(self) -> (View4<'a>, Self) {
        (View4 { pointer: self.pointer, shape: self.shape, ld: self.ld, borrow: PhantomData }, self)
    }

    /// Floats from each of its elements to the same element of `other`.
    ///
    /// # Panics
    /// When the other view has another shape or pixel distance.
    pub(crate) fn distance_to(&self, other: View4) -> isize {
        assert_eq!((other.shape, other.ld), (self.shape, self.ld));
        other.pointer.addr().wrapping_sub(self.pointer.addr()) as isize / size_of::<f32>() as isize
    }

    /// Whether it is so large that nobody will find it in a cache afterwards, and its pixels begin at cache
    /// lines: a pass that does not read it writes it past the caches, which spares reading what was there
    /// before.
    pub(crate) fn streams(&self) -> bool {
        // Twice as many bytes do not stay in a cache of 32 MB (a pass over 51 MB took half as long on two
        // threads), half as many do (a pass over 8 MB took one and a half times as long).
        const LARGE: usize = 16 << 20;
        const LINE: usize = 64;
        let bytes = |floats: usize| floats * size_of::<f32>();
        let aligned = self.pointer.addr().is_multiple_of(LINE) && bytes(self.ld).is_multiple_of(LINE);
        bytes(self.pixels() * self.c()) >= LARGE && aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_needs_all_but_the_gap_after_its_last_pixel() {
        let data = [0.0; 14];
        assert!(View4::new(&data, [1, 2, 2, 2], 4).is_ok());
        let error = View4::new(&data[..13], [1, 2, 2, 2], 4).unwrap_err();
        assert_eq!(error.to_string(), "Expected at least 14 floats but received 13.");
    }

    #[test]
    fn a_pixel_stride_below_the_channels_is_refused() {
        let error = View4::new(&[0.0; 64], [1, 2, 2, 5], 4).unwrap_err();
        assert_eq!(error.to_string(), "Expected a pixel stride of at least 5 but received 4.");
    }

    #[test]
    fn a_shape_beyond_memory_is_refused() {
        assert!(matches!(View4::new(&[], [usize::MAX, 2, 2, 1], 1), Err(ViewError::Overflow(_))));
    }
}
