//! Both poolings against the naive reference, at every kind of border and remainder.

mod normalized;

use super::*;
use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
use crate::{Activation, Context, View4, ViewMut4};
use fovea_reference::{check, pool2d as reference};

const CHANNELS: [usize; 8] = [1, 3, 6, 7, 16, 17, 33, 70];

const LENET: Pool2dShape =
    Pool2dShape { input: [28, 28, 6], size: [2, 2], stride: [2, 2], padding: [0; 4], ceil_mode: false };

/// Geometries with one channel: tiling, floor, ceil, overlapping, padded per side, sparse, global.
fn geometries() -> Vec<Pool2dShape> {
    let geometry = |input: [usize; 2], size, stride, padding| Pool2dShape {
        input: [input[0], input[1], 1],
        size,
        stride,
        padding,
        ..LENET
    };
    let mut geometries = vec![
        geometry([4, 6], [2, 2], [2, 2], [0; 4]),
        geometry([7, 5], [2, 2], [2, 2], [0; 4]),
        geometry([8, 7], [3, 3], [2, 2], [1, 1, 1, 1]),
        geometry([9, 6], [3, 3], [2, 2], [0, 1, 1, 0]),
        geometry([5, 6], [3, 3], [1, 1], [1, 1, 1, 1]),
        geometry([5, 5], [2, 2], [1, 1], [0, 1, 1, 0]),
        geometry([9, 10], [5, 4], [2, 3], [2, 0, 1, 3]),
        geometry([7, 8], [1, 2], [3, 4], [0; 4]),
        geometry([7, 7], [7, 7], [1, 1], [0; 4]),
        geometry([1, 1], [3, 3], [2, 2], [2, 1, 1, 1]),
        geometry([3, 3], [5, 5], [1, 2], [4, 2, 2, 4]),
    ];
    geometries.extend(geometries.clone().into_iter().map(|shape| Pool2dShape { ceil_mode: true, ..shape }));
    geometries
}

/// Calls `test` for every geometry with each number of channels, two images, and gaps after the pixels of x and
/// y.
fn on_every_shape(test: impl Fn(Pool2dShape, reference::Pool2d, usize, usize)) {
    for (index, shape) in geometries().into_iter().enumerate() {
        for (turn, channels) in CHANNELS.into_iter().enumerate() {
            let shape = Pool2dShape { input: [shape.input[0], shape.input[1], channels], ..shape };
            let gaps = [(0, 0), (2, 0), (0, 1), (3, 5)][(index + turn) % 4];
            test(shape, naive(shape, 2), gaps.0, gaps.1);
        }
    }
}

fn naive(shape: Pool2dShape, batch: usize) -> reference::Pool2d {
    let Pool2dShape { input, size, stride, padding, ceil_mode } = shape;
    reference::Pool2d { batch, input, size, stride, padding, ceil_mode }
}

/// Shapes of x and y of `n` images.
fn shapes(shape: Pool2dShape, n: usize) -> [[usize; 4]; 2] {
    let geometry = Geometry::new(shape).unwrap();
    [geometry.input(n), geometry.output(n)]
}

/// Values of which many are equal.
fn with_ties(seed: u64, shape: [usize; 4], gap: usize) -> Tensor {
    let values = check::uniform(seed, shape.iter().product());
    Tensor::new(&values.iter().map(|value| (value * 4.0).round() / 4.0).collect::<Vec<_>>(), shape, gap)
}

#[test]
fn the_output_size_equals_the_reference() {
    on_every_shape(|shape, naive, _, _| assert_eq!(shape.output(), Ok(naive.output())));
}

#[test]
fn max_pooling_equals_the_reference_with_its_winners() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let [shape_x, shape_y] = shapes(shape, 2);
        let x = with_ties(1, shape_x, gap_x);
        let (expected, winners) = reference::MaxPool2d(naive).forward(&x.wide());
        on_every_isa(|context| {
            let pooling = MaxPool2d::new(shape).unwrap();
            let (mut y, mut argmax) = (Tensor::unwritten(shape_y, gap_y), vec![0xff; winners.len()]);
            pooling.forward(context, x.view(), Activation::None, y.view_mut(), Some(&mut argmax));
            assert_matches(&y.values(), &expected, 0.0);
            assert_eq!(
                argmax.iter().map(|&byte| usize::from(byte)).collect::<Vec<_>>(),
                winners,
                "{shape:?}"
            );
            let mut without = Tensor::unwritten(shape_y, gap_y);
            pooling.forward(context, x.view(), Activation::None, without.view_mut(), None);
            assert_eq!(without.values(), y.values());
        });
    });
}

#[test]
fn the_gradient_of_max_pooling_equals_the_reference() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let [shape_x, shape_y] = shapes(shape, 2);
        let (x, dy) = (with_ties(1, shape_x, 0), Tensor::uniform(2, shape_y, gap_y));
        let winners = reference::MaxPool2d(naive).forward(&x.wide()).1;
        let expected = reference::MaxPool2d(naive).backward(&dy.wide(), &winners);
        let argmax: Vec<_> = winners.iter().map(|&winner| winner as u8).collect();
        on_every_isa(|context| {
            let mut dx = Tensor::unwritten(shape_x, gap_x);
            MaxPool2d::new(shape).unwrap().backward(context, dy.view(), &argmax, None, dx.view_mut());
            assert_matches(&dx.values(), &expected, 3e-7);
        });
    });
}

#[test]
fn a_fused_relu_equals_pooling_then_relu_in_both_directions() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let [shape_x, shape_y] = shapes(shape, 2);
        let (x, dy) = (Tensor::uniform(1, shape_x, gap_x), Tensor::uniform(2, shape_y, gap_y));
        let (pooled, winners) = reference::MaxPool2d(naive).forward(&x.wide());
        let expected = fovea_reference::activation::relu(&pooled);
        let masked = fovea_reference::activation::relu_backward(&dy.wide(), &expected);
        let gradient = reference::MaxPool2d(naive).backward(&masked, &winners);
        on_every_isa(|context| {
            let pooling = MaxPool2d::new(shape).unwrap();
            let (mut y, mut argmax) = (Tensor::unwritten(shape_y, gap_y), vec![0; winners.len()]);
            pooling.forward(context, x.view(), Activation::Relu, y.view_mut(), Some(&mut argmax));
            assert_matches(&y.values(), &expected, 0.0);
            let mut dx = Tensor::unwritten(shape_x, gap_x);
            pooling.backward(context, dy.view(), &argmax, Some(y.view()), dx.view_mut());
            assert_matches(&dx.values(), &gradient, 3e-7);
        });
    });
}

#[test]
fn nan_wins_every_window_and_the_last_of_several() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let [shape_x, shape_y] = shapes(shape, 2);
        let numbers = check::uniform(1, shape_x.iter().product());
        let values: Vec<_> = numbers.iter().map(|&x| if x > 0.7 { f32::NAN } else { x }).collect();
        let x = Tensor::new(&values, shape_x, gap_x);
        let (expected, winners) = reference::MaxPool2d(naive).forward(&x.wide());
        for activation in [Activation::None, Activation::Relu] {
            on_every_isa(|context| {
                let (mut y, mut argmax) = (Tensor::unwritten(shape_y, gap_y), vec![0; winners.len()]);
                let pooling = MaxPool2d::new(shape).unwrap();
                pooling.forward(context, x.view(), activation, y.view_mut(), Some(&mut argmax));
                let y = y.values();
                assert!(y.iter().zip(&expected).all(|(y, expected)| y.is_nan() == expected.is_nan()));
                assert_eq!(argmax.iter().map(|&byte| usize::from(byte)).collect::<Vec<_>>(), winners);
            });
        }
    });
}

#[test]
fn infinite_values_pool_like_any_other() {
    let x = Tensor::new(&[f32::NEG_INFINITY; 4], [1, 2, 2, 1], 0);
    let pooling = MaxPool2d::new(Pool2dShape { input: [2, 2, 1], ..LENET }).unwrap();
    on_every_isa(|context| {
        let (mut y, mut argmax) = (Tensor::unwritten([1, 1, 1, 1], 0), [9]);
        pooling.forward(context, x.view(), Activation::None, y.view_mut(), Some(&mut argmax));
        assert_eq!((y.values()[0], argmax[0]), (f32::NEG_INFINITY, 0));
    });
}

#[test]
fn an_argmax_of_nonsense_touches_nothing_but_dx() {
    let [shape_x, shape_y] = shapes(LENET, 1);
    let (dy, argmax) = (Tensor::uniform(2, shape_y, 0), vec![200; 14 * 14 * 6]);
    on_every_isa(|context| {
        let mut dx = Tensor::unwritten(shape_x, 2);
        MaxPool2d::new(LENET).unwrap().backward(context, dy.view(), &argmax, None, dx.view_mut());
        assert!(dx.values().iter().all(|&value| value == 0.0));
    });
}

#[test]
fn average_pooling_and_its_gradient_equal_the_reference() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let [shape_x, shape_y] = shapes(shape, 2);
        let (x, dy) = (Tensor::uniform(1, shape_x, gap_x), Tensor::uniform(2, shape_y, gap_y));
        for count_include_pad in [true, false] {
            let naive = reference::AvgPool2d { pool: naive, count_include_pad };
            let (expected, gradient) = (naive.forward(&x.wide()), naive.backward(&dy.wide()));
            on_every_isa(|context| {
                let pooling = AvgPool2d::new(shape, count_include_pad).unwrap();
                let (mut y, mut dx) = (Tensor::unwritten(shape_y, gap_y), Tensor::unwritten(shape_x, gap_x));
                pooling.forward(context, x.view(), y.view_mut());
                assert_matches(&y.values(), &expected, 1e-6);
                pooling.backward(context, dy.view(), dx.view_mut());
                assert_matches(&dx.values(), &gradient, 1e-6);
            });
        }
    });
}

#[test]
fn sums_and_their_gradient_enlarge_a_map_as_the_reference_does() {
    for (factor, channels) in
        [[1, 1], [2, 2], [3, 2], [1, 4]].into_iter().flat_map(|f| CHANNELS.map(|c| (f, c)))
    {
        let small = [2, 3, 4, channels];
        let large = [2, 3 * factor[0], 4 * factor[1], channels];
        let (x, dy) = (Tensor::uniform(1, small, 2), Tensor::uniform(2, large, 1));
        let naive = fovea_reference::Upsample { batch: 2, input: [3, 4, channels], factor };
        let (expected, gradient) = (naive.forward(&x.wide()), naive.backward(&dy.wide()));
        let input = [large[1], large[2], channels];
        let shape = Pool2dShape { input, size: factor, stride: factor, padding: [0; 4], ceil_mode: false };
        on_every_isa(|context| {
            let sums = AvgPool2d::sums(shape).unwrap();
            let (mut y, mut dx) = (Tensor::unwritten(large, 0), Tensor::unwritten(small, 3));
            sums.backward(context, x.view(), y.view_mut());
            assert_matches(&y.values(), &expected, 0.0);
            sums.forward(context, dy.view(), dx.view_mut());
            assert_matches(&dx.values(), &gradient, 1e-6);
        });
    }
}

#[test]
fn gradients_equal_finite_differences_of_the_forward_pass() {
    let shape = Pool2dShape {
        input: [5, 4, 3],
        size: [3, 2],
        stride: [2, 1],
        padding: [1, 0, 2, 1],
        ceil_mode: true,
    };
    let [shape_x, shape_y] = shapes(shape, 1);
    // A step of 1/64 changes no winner: the values are multiples of 1/8, all different.
    let values: Vec<_> = (0..60).map(|index| ((index * 37) % 60) as f32 / 8.0 - 3.0).collect();
    let (x, dy) = (Tensor::new(&values, shape_x, 0), Tensor::uniform(2, shape_y, 0));
    let (max, average) = (MaxPool2d::new(shape).unwrap(), AvgPool2d::new(shape, true).unwrap());
    on_every_isa(|context| {
        let numeric = |forward: &dyn Fn(View4, ViewMut4)| {
            check::finite_difference(&x.wide(), 1.0 / 64.0, |x| {
                let mut y = Tensor::unwritten(shape_y, 0);
                forward(Tensor::new(&check::narrow(x), shape_x, 0).view(), y.view_mut());
                check::dot(&y.wide(), &dy.wide())
            })
        };
        let (mut argmax, mut y, mut dx) =
            (vec![0; shape_y.iter().product()], Tensor::unwritten(shape_y, 0), Tensor::unwritten(shape_x, 0));
        max.forward(context, x.view(), Activation::None, y.view_mut(), Some(&mut argmax));
        max.backward(context, dy.view(), &argmax, None, dx.view_mut());
        let expected = numeric(&|x, y| max.forward(context, x, Activation::None, y, None));
        assert_matches(&dx.values(), &expected, 1e-5);
        average.backward(context, dy.view(), dx.view_mut());
        assert_matches(&dx.values(), &numeric(&|x, y| average.forward(context, x, y)), 1e-4);
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let overlapping = Pool2dShape { input: [30, 29, 17], size: [3, 3], padding: [1, 1, 1, 1], ..LENET };
    for shape in [LENET, overlapping] {
        let [shape_x, shape_y] = shapes(shape, 32);
        let (x, dy) = (Tensor::uniform(1, shape_x, 0), Tensor::uniform(2, shape_y, 0));
        assert_threads_agree(|context: Context| {
            let max = MaxPool2d::new(shape).unwrap();
            let average = AvgPool2d::new(shape, false).unwrap();
            let [mut y, mut mean] = [(); 2].map(|()| Tensor::unwritten(shape_y, 0));
            let [mut dx, mut dx_mean] = [(); 2].map(|()| Tensor::unwritten(shape_x, 0));
            let mut argmax = vec![0; shape_y.iter().product()];
            max.forward(context, x.view(), Activation::Relu, y.view_mut(), Some(&mut argmax));
            max.backward(context, dy.view(), &argmax, Some(y.view()), dx.view_mut());
            average.forward(context, x.view(), mean.view_mut());
            average.backward(context, dy.view(), dx_mean.view_mut());
            [y.values(), dx.values(), mean.values(), dx_mean.values()].concat()
        });
    }
}

#[test]
fn ceil_mode_pools_an_input_smaller_than_the_window() {
    // As torch.nn.MaxPool2d(3, 2, ceil_mode=True) of a 2 x 2 input.
    let shape = Pool2dShape { input: [2, 2, 1], size: [3, 3], ceil_mode: true, ..LENET };
    assert_eq!(shape.output(), Ok([1, 1, 1]));
    let x = Tensor::new(&[1.0, 2.0, 4.0, 3.0], [1, 2, 2, 1], 0);
    on_every_isa(|context| {
        let (mut y, mut mean, mut argmax) =
            (Tensor::unwritten([1, 1, 1, 1], 0), Tensor::unwritten([1, 1, 1, 1], 0), [0]);
        let pooling = MaxPool2d::new(shape).unwrap();
        pooling.forward(context, x.view(), Activation::None, y.view_mut(), Some(&mut argmax));
        AvgPool2d::new(shape, true).unwrap().forward(context, x.view(), mean.view_mut());
        assert_eq!((y.values()[0], argmax[0], mean.values()[0]), (4.0, 3, 2.5));
    });
}

#[test]
fn impossible_geometries_are_refused_with_a_sentence() {
    let message = |shape: Pool2dShape| MaxPool2d::new(shape).unwrap_err().to_string();
    let cases = [
        (Pool2dShape { stride: [2, 0], ..LENET }, "Expected a positive stride but received 0."),
        (
            Pool2dShape { padding: [0, 2, 0, 0], ..LENET },
            "Expected padding smaller than the 2 x 2 window but received [0, 2, 0, 0].",
        ),
        (
            Pool2dShape { size: [3, 31], padding: [0, 1, 0, 1], ..LENET },
            "A 3 x 31 window does not fit into a padded input of 28 x 30.",
        ),
        (
            Pool2dShape { size: [16, 16], ..LENET },
            "Expected a window of at most 255 pixels but received 16 x 16.",
        ),
        (
            Pool2dShape { size: [usize::MAX, 1], ..LENET },
            "Expected sizes of at most 1073741824 but received 18446744073709551615.",
        ),
    ];
    for (shape, expected) in cases {
        assert_eq!(message(shape), expected);
    }
    assert!(AvgPool2d::new(Pool2dShape { size: [16, 16], ..LENET }, true).is_ok());
}

#[test]
#[should_panic(expected = "shape of y")]
fn a_view_of_another_shape_is_refused() {
    let (x, y) = (Tensor::uniform(1, [1, 28, 28, 6], 0), Tensor::unwritten([1, 14, 13, 6], 0));
    on_every_isa(|context| {
        AvgPool2d::new(LENET, true).unwrap().forward(context, x.view(), y.clone().view_mut())
    });
}
