//! Ways to train: against PyTorch, against each other, and interrupted.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{chain, dense, dropout, judged, lenet5, mixed, node, op, varied};
use common::{batch, bits, load, session};
use fovea_engine::{Moments, NamedTensor, Optimizer, ParameterGroup, Session, StepOptions};
use fovea_kernels::Isa;
use fovea_reference::check::{relative_error, uniform, widen};
use fovea_reference::golden::Golden;
use serde_json::{Value, json};
use std::ops::Range;

const MOMENTS: Moments = Moments { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 };

/// Every optimizer, with rates for which the tests' networks learn.
fn optimizers() -> Vec<StepOptions<'static>> {
    let options = |optimizer, learning_rate| StepOptions {
        optimizer,
        learning_rate,
        weight_decay: 1e-3,
        ..StepOptions::default()
    };
    vec![
        options(Optimizer::Sgd { momentum: 0.0, nesterov: false }, 0.05),
        options(Optimizer::Sgd { momentum: 0.9, nesterov: true }, 0.02),
        options(Optimizer::Adam(MOMENTS), 1e-3),
        options(Optimizer::AdamW(MOMENTS), 1e-3),
        options(Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-4, momentum: 0.0, centered: false }, 1e-3),
        options(Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, centered: true }, 1e-3),
        options(Optimizer::Lamb(MOMENTS), 0.01),
        options(Optimizer::Lars { momentum: 0.9, nesterov: false, trust: 0.01 }, 0.1),
    ]
}

/// Trains the steps `first..last`, each on a batch of its own; returns the losses' bits.
fn train(session: &mut Session, images: usize, steps: Range<u64>, options: &StepOptions) -> Vec<u32> {
    let step = |step: u64| {
        let (images, labels) = batch(session, images, 4, step);
        session.train_step(&images, &labels, options).unwrap().loss.to_bits()
    };
    steps.map(step).collect()
}

/// The recipe of `network_weights` in tests/golden/make.py.
fn initial(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let around_one = ["weight", "running_var"].iter().any(|end| tensor.name.ends_with(end));
        let (scale, middle) = match tensor.shape.len() {
            1 => (0.2, if around_one { 1.0 } else { 0.0 }),
            _ => ((6.0 / tensor.shape[1..].iter().product::<usize>() as f64).sqrt() as f32, 0.0),
        };
        let values = uniform(index as u64, tensor.values.len());
        tensor.values = values.into_iter().map(|value| value * scale + middle).collect();
    }
    tensors
}

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

fn optimizer(case: &Value) -> Optimizer {
    let get = |key: &str| number(&case[key]).unwrap();
    let moments = || Moments { beta1: get("beta1"), beta2: get("beta2"), epsilon: get("epsilon") };
    match case["kind"].as_str().unwrap() {
        "sgd" => Optimizer::Sgd { momentum: get("momentum"), nesterov: case["nesterov"] == true },
        "adam" => Optimizer::Adam(moments()),
        "adamw" => Optimizer::AdamW(moments()),
        _ => Optimizer::RmsProp {
            alpha: get("alpha"),
            epsilon: get("epsilon"),
            momentum: get("momentum"),
            centered: case["centered"] == true,
        },
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn groups(recipe: &Value) -> Vec<ParameterGroup> {
    let group = |group: &Value| ParameterGroup {
        names: strings(&group["names"]),
        learning_rate_scale: number(&group["scale"]).unwrap(),
        weight_decay: number(&group["weight_decay"]),
    };
    recipe["groups"].as_array().into_iter().flatten().map(group).collect()
}

#[track_caller]
fn assert_tensors(golden: &Golden, prefix: &str, tensors: &[NamedTensor], isa: Isa) {
    assert_eq!(tensors.len(), golden.names(prefix).len());
    for tensor in tensors {
        let expected = widen(golden.values(&format!("{prefix}{}", tensor.name)));
        let error = relative_error(&tensor.values, &expected);
        assert!(error < 1e-4, "{} {prefix}{} is wrong by {error:e}", isa.name(), tensor.name);
    }
}

#[test]
fn groups_clipping_accumulation_averages_frozen_layers_and_class_weights_equal_pytorch() {
    let golden = Golden::open("recipes");
    let &[_, images, height, width, channels] = golden.shape("images") else { panic!("five dimensions") };
    let pixels: Vec<f32> = golden.values("images").iter().map(|byte| byte / 255.0).collect();
    let image_len = height * width * channels;
    let labels = golden.integers("labels");
    let cases = golden.cases::<Value>();
    for (isa, (name, case)) in
        Isa::available().into_iter().flat_map(|isa| cases.iter().map(move |case| (isa, case)))
    {
        let recipe = &case["recipe"];
        let mut session = session(&case["graph"].to_string(), 2, isa);
        let weights = initial(session.weights());
        load(&mut session, &weights);
        session.configure(&groups(recipe), &strings(&recipe["frozen"])).unwrap();
        let class_weights = recipe["class_weights"].as_array();
        let class_weights: Option<Vec<f32>> =
            class_weights.map(|weights| weights.iter().filter_map(number).collect());
        let options = StepOptions {
            learning_rate: 0.02,
            optimizer: optimizer(&recipe["optimizer"]),
            weight_decay: number(&recipe["weight_decay"]).unwrap_or(0.0),
            label_smoothing: number(&recipe["label_smoothing"]).unwrap_or(0.0),
            class_weights: class_weights.as_deref(),
            clip_norm: number(&recipe["clip_norm"]),
            accumulate: recipe["accumulate"].as_u64().unwrap_or(1) as usize,
            ema: number(&recipe["ema"]),
        };
        let batches = pixels.chunks_exact(images * image_len).zip(labels.chunks_exact(images));
        for ((pixels, labels), &expected) in batches.zip(golden.values(&format!("{name}.losses"))) {
            let loss = session.train_step(pixels, labels, &options).unwrap().loss;
            let error = (loss - expected).abs() / expected;
            assert!(error < 2e-5, "{} {name}: {loss} instead of {expected}", isa.name());
        }
        assert_tensors(&golden, &format!("{name}.final."), &session.weights(), isa);
        if options.ema.is_some() {
            let averages = session.with_averages(|session| session.weights()).unwrap();
            assert_tensors(&golden, &format!("{name}.average."), &averages, isa);
            assert_tensors(&golden, &format!("{name}.final."), &session.weights(), isa);
        }
    }
}

#[test]
fn every_optimizer_lowers_the_loss_and_gives_the_same_bits_on_any_number_of_threads() {
    for (isa, options) in
        Isa::available().into_iter().flat_map(|isa| optimizers().into_iter().map(move |o| (isa, o)))
    {
        let options = StepOptions { clip_norm: Some(2.0), accumulate: 3, ema: Some(0.9), ..options };
        let outcome = |threads| {
            let mut session = session(&lenet5(), threads, isa);
            let (images, labels) = batch(&session, 32, 4, 1);
            let losses = (0..8).map(|_| session.train_step(&images, &labels, &options).unwrap().loss);
            let losses: Vec<f32> = losses.collect();
            assert!(losses[7] < losses[0], "{options:?} {losses:?}");
            let averages = session.with_averages(|session| bits(session)).unwrap();
            (losses, bits(&session), averages)
        };
        let alone = outcome(1);
        for threads in [2, 3] {
            assert_eq!(outcome(threads), alone, "{} {options:?} on {threads} threads", isa.name());
        }
    }
}

#[test]
fn five_steps_a_checkpoint_and_five_more_equal_ten_steps_byte_for_byte_with_every_optimizer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let isa = Isa::detect().unwrap();
    let saved = |session: &mut Session| {
        let path = directory.path().join("state");
        session.save_checkpoint(&path, "{}").unwrap();
        std::fs::read(path).unwrap()
    };
    for (index, options) in optimizers().into_iter().enumerate() {
        let options =
            StepOptions { ema: (index % 2 == 0).then_some(0.5), accumulate: 1 + index % 3, ..options };
        let frozen = if index % 2 == 0 { vec![] } else { vec!["stem".to_owned(), "hidden.bias".to_owned()] };
        let new = |threads| {
            let mut session = session(&mixed(), threads, isa);
            session.configure(&[], &frozen).unwrap();
            session
        };
        let mut whole = new(2);
        train(&mut whole, 8, 0..10, &options);
        let mut first = new(1);
        train(&mut first, 8, 0..5, &options);
        first.save_checkpoint(&path, "here").unwrap();
        let mut second = new(2);
        train(&mut second, 8, 90..92, &StepOptions::default()); // whatever it knew before must be gone
        assert_eq!(second.load_checkpoint(&path).unwrap(), "here");
        train(&mut second, 8, 5..10, &options);
        assert!(saved(&mut second) == saved(&mut whole), "{options:?}");
    }
}

#[test]
fn a_checkpoint_goes_on_with_its_own_optimizer_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let [sgd, adam] = [1, 2].map(|index| optimizers()[index]);
    let mut session = common::fastest(&lenet5());
    train(&mut session, 4, 0..1, &adam);
    session.save_checkpoint(&path, "").unwrap();
    session.load_checkpoint(&path).unwrap();
    let before = bits(&session);
    let (images, labels) = batch(&session, 4, 4, 1);
    assert_eq!(
        session.train_step(&images, &labels, &sgd).unwrap_err().to_string(),
        "Expected \"adam\", whose state the checkpoint holds, for \"optimizer\" but received \"sgd\"."
    );
    assert_eq!(bits(&session), before);
    train(&mut session, 4, 1..2, &adam);
    // In one process, another optimizer begins anew: as with parameters and count of a session that has none.
    train(&mut session, 4, 2..3, &sgd);
    let mut fresh = common::fastest(&lenet5());
    let weights = {
        let mut other = common::fastest(&lenet5());
        train(&mut other, 4, 0..1, &adam);
        train(&mut other, 4, 1..2, &adam);
        other.weights()
    };
    load(&mut fresh, &weights);
    train(&mut fresh, 4, 2..3, &sgd);
    assert_eq!(bits(&fresh), bits(&session));
}

#[test]
fn a_checkpoint_from_before_there_was_a_choice_goes_on_with_sgd() {
    let directory = tempfile::tempdir().unwrap();
    let [new, old] = ["new", "old"].map(|name| directory.path().join(name));
    let options = optimizers()[1];
    let mut session = common::fastest(&lenet5());
    train(&mut session, 4, 0..3, &options);
    session.save_checkpoint(&new, "m").unwrap();
    // The header without the two keys that are new, its length kept by spaces, as safetensors allows.
    let bytes = std::fs::read(&new).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("optimizer").unwrap(), "sgd");
    assert_eq!(metadata.remove("updates").unwrap(), "3");
    let header = format!("{:<length$}", header.to_string());
    std::fs::write(&old, [&bytes[..8], header.as_bytes(), &bytes[8 + length..]].concat()).unwrap();
    let mut second = common::fastest(&lenet5());
    assert_eq!(second.load_checkpoint(&old).unwrap(), "m");
    train(&mut session, 4, 3..5, &options);
    train(&mut second, 4, 3..5, &options);
    assert_eq!(bits(&second), bits(&session));
}

#[test]
fn parts_of_a_batch_add_up_to_the_batch() {
    // Without batch normalization and dropout a batch is the sum of its parts, also where they differ in size.
    for (images, accumulate) in [(12, 3), (13, 4), (3, 8), (5, 5)] {
        let outcome = |accumulate: usize| {
            let mut session = common::fastest(&lenet5());
            let (images, labels) = batch(&session, images, 4, 3);
            let options = StepOptions { accumulate, ..StepOptions::default() };
            let result = session.train_step(&images, &labels, &options).unwrap();
            (result, session.weights())
        };
        let ((whole, expected), (parts, actual)) = (outcome(1), outcome(accumulate));
        assert!((whole.loss - parts.loss).abs() < 1e-6 * whole.loss);
        assert_eq!(whole.correct, parts.correct);
        for (actual, expected) in actual.iter().zip(&expected) {
            let error = relative_error(&actual.values, &widen(&expected.values));
            assert!(error < 1e-5, "{images} in {accumulate}: {} {error:e}", actual.name);
        }
    }
}

#[test]
fn parts_of_a_batch_add_up_to_the_batch_whatever_their_labels_weigh() {
    let nodes = vec![
        node("hidden", "input", dense(5)),
        node("a", "hidden", dense(3)),
        node("b", "hidden", dense(3)),
        node("c", "hidden", dense(3)),
    ];
    let loss = |kind: &str| json!({"kind": kind});
    let outputs = [
        ("a", 1.0, loss("crossEntropy")),
        ("b", 0.3, loss("meanSquaredError")),
        ("c", 0.5, loss("crossEntropy")),
    ];
    let definition = judged([1, 1, 4], nodes, &outputs);
    let labels = [0, 1, 2, 2, 0, 0, 0, 0, 1, 0]; // of 5 and of 10 parts some are all of class 0
    for weights in [[1.0, 5.0, 0.2], [0.0, 1.0, 0.0]] {
        for label_smoothing in [0.0, 0.1] {
            let outcome = |accumulate: usize| {
                let mut session = common::fastest(&definition);
                let (images, _) = batch(&session, 10, 3, 3);
                let options = StepOptions {
                    accumulate,
                    label_smoothing,
                    class_weights: Some(&weights),
                    ..StepOptions::default()
                };
                let result = session.train_step(&images, &labels, &options).unwrap();
                (result, session.gradients())
            };
            let (whole, expected) = outcome(1);
            for parts in [2, 3, 5, 10] {
                let (result, gradients) = outcome(parts);
                let error = (whole.loss - result.loss).abs();
                assert!(
                    error < 1e-6 * whole.loss,
                    "{parts} parts: {} instead of {}",
                    result.loss,
                    whole.loss
                );
                for (actual, expected) in gradients.iter().zip(&expected) {
                    let error = relative_error(&actual.values, &widen(&expected.values));
                    assert!(error < 1e-5, "{parts} parts: {} {error:e}", actual.name);
                }
            }
        }
    }
}

#[test]
fn every_part_of_a_batch_drops_out_values_of_its_own() {
    let graph = chain([1, 1, 4], &[dense(64), dropout(0.5), dense(4)]);
    let mut session = common::fastest(&graph);
    let (images, labels) = ([0.5; 8], [1, 1]);
    let options = StepOptions { accumulate: 2, ..StepOptions::default() };
    session.train_step(&images, &labels, &options).unwrap();
    // Equal images with equal labels: were the same units dropped twice, half of the second weight had no
    // gradient.
    let gradients = session.gradients();
    let second = gradients.iter().find(|tensor| tensor.name == "node2.weight").unwrap();
    let zeros = second.values.iter().filter(|&&gradient| gradient == 0.0).count();
    assert!(zeros < second.values.len() * 2 / 5, "{zeros} of {}", second.values.len());
}

#[test]
fn what_is_frozen_stays_and_is_left_out_of_the_plan() {
    let mut session = common::fastest(&mixed());
    let before = session.weights();
    let rows = |session: &mut Session| {
        let plan = session.explain(fovea_engine::Mode::Train, 4, false).unwrap();
        plan.rows.len()
    };
    let whole = rows(&mut session);
    train(&mut session, 4, 0..1, &StepOptions::default());
    let frozen = ["stem", "norm", "block1", "hidden.weight", "depthwise"].map(str::to_owned);
    let error = session.configure(&[], &frozen).unwrap_err().to_string();
    assert_eq!(
        error,
        "Expected names of layers with parameters, or of parameters, for \"frozen\" but received \"norm\"."
    );
    load(&mut session, &before);
    session.configure(&[], &[&frozen[..1], &frozen[2..]].concat()).unwrap();
    assert!(rows(&mut session) + 20 < whole, "{} of {whole}", rows(&mut session));
    train(&mut session, 4, 1..4, &StepOptions { weight_decay: 0.1, ..StepOptions::default() });
    for (tensor, before) in session.weights().iter().zip(&before) {
        let is_frozen =
            ["stem.", "block1.", "hidden.weight", "depthwise.weight", "depthwise.bias", "depthwise.bn."];
        // "depthwise" is one layer; "depthwise.bn" goes by it as a layer of the block of that name.
        let is_frozen = is_frozen.iter().any(|name| tensor.name.starts_with(name));
        assert_eq!(tensor.values == before.values, is_frozen, "{}", tensor.name);
    }
    for tensor in session.gradients().iter().filter(|tensor| tensor.name.starts_with("stem.")) {
        assert!(tensor.values.iter().all(|&gradient| gradient == 0.0), "{}", tensor.name);
    }
    session.configure(&[], &[]).unwrap();
    assert_eq!(rows(&mut session), whole);
    train(&mut session, 4, 4..5, &StepOptions::default());
    assert!(session.weights().iter().zip(&before).all(|(tensor, before)| tensor.values != before.values));
}

#[test]
fn freezing_everything_is_refused_and_channel_layers_freeze_like_others() {
    let mut session = common::fastest(&varied());
    let names: Vec<String> = session.parameters().into_iter().map(|parameter| parameter.name).collect();
    let (images, labels) = batch(&session, 3, 4, 0);
    session.configure(&[], &names).unwrap();
    assert_eq!(
        session.train_step(&images, &labels, &StepOptions::default()).unwrap_err().to_string(),
        "Expected names that leave something to learn for \"frozen\" but received all of them."
    );
    // One parameter alone learns, wherever it stands.
    for index in 0..names.len() {
        let mut others = names.clone();
        let learning = others.remove(index);
        session.configure(&[], &others).unwrap();
        let before = session.weights();
        session.train_step(&images, &labels, &StepOptions::default()).unwrap();
        for (tensor, before) in session.weights().iter().zip(&before) {
            let same = tensor.values == before.values;
            assert!(same || tensor.name == learning || tensor.name.contains("running"), "{}", tensor.name);
        }
    }
}

#[test]
fn groups_that_make_no_sense_are_refused() {
    let mut session = common::fastest(&lenet5());
    let group = |names: &[&str], learning_rate_scale, weight_decay| ParameterGroup {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        learning_rate_scale,
        weight_decay,
    };
    for (groups, expected) in [
        (vec![group(&["node0"], 1.0, None)], "for \"groups.names\" but received \"node0\"."),
        (
            vec![group(&["node0.bias"; 2], 1.0, None)],
            "each once, for \"groups.names\" but received \"node0.bias\".",
        ),
        (vec![group(&["node0.bias"], -1.0, None)], "for \"groups.learningRateScale\" but received -1."),
        (vec![group(&["node0.bias"], 1.0, Some(f32::NAN))], "for \"groups.weightDecay\" but received NaN."),
    ] {
        let message = session.configure(&groups, &[]).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
    let before = session.weights();
    session.configure(&[group(&["node0.weight", "node0.bias"], 0.0, None)], &[]).unwrap();
    train(&mut session, 4, 0..1, &StepOptions::default());
    for (tensor, before) in session.weights().iter().zip(&before) {
        assert_eq!(tensor.values == before.values, tensor.name.starts_with("node0."), "{}", tensor.name);
    }
}

#[test]
fn averages_are_there_once_a_step_has_made_them() {
    let mut session = common::fastest(&mixed());
    let error = session.with_averages(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "Expected false, as no step has averaged the weights, for \"averaged\" but received true."
    );
    train(&mut session, 4, 0..1, &StepOptions { ema: Some(0.5), ..StepOptions::default() });
    let averages = |session: &mut Session| session.with_averages(|session| bits(session)).unwrap();
    assert_eq!(averages(&mut session), bits(&session)); // the first ones
    train(&mut session, 4, 1..2, &StepOptions { ema: Some(0.5), ..StepOptions::default() });
    assert_ne!(averages(&mut session), bits(&session));
    // Predictions are those of the weights that are meant, whatever was kept of others.
    let (images, _) = batch(&session, 2, 4, 0);
    let predict = |session: &mut Session| {
        let mut output = vec![0.0; 2 * session.output_len()];
        session.predict(&images, 2, &mut output).unwrap();
        output
    };
    let own = predict(&mut session);
    let averaged = session.with_averages(predict).unwrap();
    assert_ne!(own, averaged);
    assert_eq!(predict(&mut session), own);
    let weights = session.weights();
    load(&mut session, &weights);
    assert!(session.with_averages(|_| ()).is_err());
}

#[test]
fn weights_are_loaded_except_those_of_another_head() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights");
    let [wide, narrow] = [9, 4].map(|classes| chain([1, 1, 3], &[dense(2), op("tanh"), dense(classes)]));
    let mut pretrained = common::fastest(&wide);
    train(&mut pretrained, 4, 0..2, &StepOptions::default());
    pretrained.save_weights(&path).unwrap();
    let mut session = common::session(&narrow, 1, Isa::detect().unwrap());
    let before = session.weights();
    let refused = session.load_weights_file(&path, &[]).unwrap_err().to_string();
    assert!(refused.contains("\"node2.weight\" [9, 2] instead of [4, 2]"), "{refused}");
    assert!(refused.contains("\"node2.bias\" [9] instead of [4]"), "{refused}");
    let error = session.load_weights_file(&path, &["node3".to_owned()]).unwrap_err().to_string();
    assert!(error.ends_with("for \"except\" but received \"node3\"."), "{error}");
    assert_eq!(session.weights(), before);
    session.load_weights_file(&path, &["node2".to_owned()]).unwrap();
    let after = session.weights();
    assert_eq!(after[..2], pretrained.weights()[..2]);
    assert_eq!(after[2..], before[2..]);
    // One tensor by its own name; the other one still does not fit.
    let refused = session.load_weights_file(&path, &["node2.bias".to_owned()]).unwrap_err().to_string();
    assert!(refused.contains("node2.weight") && !refused.contains("node2.bias"), "{refused}");
}

#[test]
fn options_of_optimizers_out_of_range_are_refused() {
    let mut session = common::fastest(&lenet5());
    let (images, labels) = batch(&session, 4, 4, 1);
    let good = StepOptions::default();
    let moments = |beta1, beta2, epsilon| Moments { beta1, beta2, epsilon };
    let rmsprop = |alpha, momentum| Optimizer::RmsProp { alpha, epsilon: 1e-8, momentum, centered: false };
    for (options, expected) in [
        (
            StepOptions { optimizer: Optimizer::Adam(moments(1.0, 0.9, 0.0)), ..good },
            "\"beta1\" but received 1.",
        ),
        (
            StepOptions { optimizer: Optimizer::Lamb(moments(0.9, -0.1, 0.0)), ..good },
            "\"beta2\" but received -0.1.",
        ),
        (
            StepOptions { optimizer: Optimizer::AdamW(moments(0.9, 0.9, f32::NAN)), ..good },
            "\"epsilon\" but received NaN.",
        ),
        (StepOptions { optimizer: rmsprop(1.0, 0.0), ..good }, "\"alpha\" but received 1."),
        (StepOptions { optimizer: rmsprop(0.5, 1.0), ..good }, "\"momentum\" but received 1."),
        (
            StepOptions { optimizer: Optimizer::Lars { momentum: 0.5, nesterov: false, trust: 0.0 }, ..good },
            "\"trust\" but received 0.",
        ),
        (StepOptions { clip_norm: Some(0.0), ..good }, "\"clipNorm\" but received 0."),
        (StepOptions { ema: Some(1.0), ..good }, "\"ema\" but received 1."),
        (StepOptions { accumulate: 0, ..good }, "\"accumulate\" but received 0."),
    ] {
        let message = session.train_step(&images, &labels, &options).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
    assert_eq!(session.step(), 0);
}
