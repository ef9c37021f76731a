//! Laws of the loop.

use std::{cell::Cell, fs, path::Path};

use anyhow::Result;
use core_layers::{
    checkpoint::Checkpoint,
    run::{LAST, METRICS, MODEL, RunFolder},
    training::{Ending, Report, TrainConfig},
};
use tch::{Device, Kind, Tensor, nn};

use super::{Learner, Origin, train};
use crate::{
    config::{Attention, DecoderConfig, FeedForward, LoraConfig, Norm, Positions, Run},
    data::DataConfig,
    formats::{self, Delivered},
    model::Decoder,
    text::Tokenizer,
    trained::{Trained, Weights},
};

/// Two layers over eleven tokens, of which the last starts texts.
pub(crate) fn tiny() -> DecoderConfig {
    DecoderConfig {
        vocabulary: 11,
        context: 8,
        layers: 2,
        d_model: 16,
        heads: 2,
        kv_heads: 2,
        d_head: 8,
        d_ff: 32,
        norm: Norm::LayerNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Learned,
        feed_forward: FeedForward::GeluTanh,
        attention: Attention::Dense,
        biases: true,
        tied: true,
        dropout: 0.,
        initial_std: 0.1,
        start: 10,
    }
}

/// A run over a file of text that `place` gets, in bytes.
fn run(place: &Path) -> Result<Run> {
    let lines = (0..400).map(|i| format!("line {} of {}", i * i % 97, i % 7));
    let text = lines.collect::<Vec<_>>().join("\n");
    let path = place.join("text.txt");
    fs::write(&path, text)?;
    Ok(Run {
        model: DecoderConfig { vocabulary: 257, start: 256, dropout: 0.1, ..tiny() },
        data: DataConfig {
            data: path.display().to_string(),
            tokenizer: "bytes".into(),
            ..DataConfig::default()
        },
        train: TrainConfig {
            num_steps: 6,
            batch_size: 4,
            micro_batches: 2,
            learning_rate: 1e-2,
            ema_decay: 0.,
            report_every: 2,
            save_every: 3,
            eval_examples: 4,
            num_samples: 0,
            threads: 1,
            ..TrainConfig::default()
        },
    })
}

fn quiet(_: Report) {}

#[test]
fn a_run_that_is_stopped_and_resumed_has_the_bits_of_one_that_is_not() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = run(place.path())?;
    let whole = RunFolder::create(&place.path().join("whole"), false)?;
    assert_eq!(train(&run, None, &whole, &|| false, &mut quiet)?, Ending::Finished);

    let cut = place.path().join("cut");
    let folder = RunFolder::create(&cut, false)?;
    let steps = Cell::new(0);
    let after_four = || {
        steps.set(steps.get() + 1);
        steps.get() == 4
    };
    let ending = train(&run, None, &folder, &after_four, &mut quiet)?;
    assert_eq!(ending, Ending::Stopped { step: 4 });
    drop(folder);
    tch::manual_seed(99); // whatever another process would have
    let folder = RunFolder::resume(&cut)?;
    train(&run, None, &folder, &|| false, &mut quiet)?;
    let of = |folder: &RunFolder| Checkpoint::load(&folder.file(LAST));
    let (wanted, found) = (of(&whole)?, of(&folder)?);
    assert_eq!(wanted.tensors.keys().collect::<Vec<_>>(), found.tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &wanted.tensors {
        assert!(tensor.equal(&found.tensors[name]), "{name}");
    }
    Ok(())
}

#[test]
fn a_killed_run_goes_on_from_its_last_save_to_the_same_bits() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = run(place.path())?;
    let whole = RunFolder::create(&place.path().join("whole"), false)?;
    train(&run, None, &whole, &|| false, &mut quiet)?;
    let killed = RunFolder::create(&place.path().join("killed"), false)?;
    let short = Run { train: TrainConfig { num_steps: 3, ..run.train.clone() }, ..run.clone() };
    train(&short, None, &killed, &|| false, &mut quiet)?; // the rate is constant, so steps are the same
    train(&run, None, &killed, &|| false, &mut quiet)?;
    assert_eq!(
        fs::read(whole.file(MODEL))?.len(),
        fs::read(killed.file(MODEL))?.len(),
        "the best weights are there"
    );
    let last = |folder: &RunFolder| Checkpoint::load(&folder.file(LAST));
    for (name, tensor) in last(&whole)?.tensors {
        assert!(tensor.equal(&last(&killed)?.tensors[&name]), "{name}");
    }
    let steps = fs::read_to_string(killed.file(METRICS))?.matches("train_bits_per_byte").count();
    assert_eq!(steps, 3, "a line every two of six steps");
    Ok(())
}

/// Gradients of one batch after nothing has been dropped, by name.
fn gradients(micro_batches: usize) -> Result<(f64, Vec<(String, Tensor)>)> {
    let place = tempfile::tempdir()?;
    let mut run = run(place.path())?;
    run.model.dropout = 0.;
    run.train.micro_batches = micro_batches;
    let mut learner = Learner::new(&run, &Origin::default(), Device::Cpu)?;
    let tokens: Vec<i64> = (0..5 * 9).map(|i| i * i % 251).collect(); // five windows: parts of unequal size
    let loss = learner.backward(&run.train, &tokens, 8, 1);
    let grad = |(name, weight): (String, &Tensor)| (name, weight.grad());
    Ok((loss, learner.decoder().tensors().into_iter().map(grad).collect()))
}

#[test]
fn parts_of_a_batch_add_up_to_the_gradient_of_the_whole() -> Result<()> {
    let (loss, wanted) = gradients(1)?;
    for parts in [2, 3, 5] {
        let (found, grads) = gradients(parts)?;
        assert!((found - loss).abs() < 1e-5, "{parts} parts: {found}, not {loss}");
        for ((name, wanted), (_, found)) in wanted.iter().zip(&grads) {
            let worst = (wanted - found).abs().max().double_value(&[]);
            assert!(worst < 1e-6, "{parts} parts, {name}: {worst}");
        }
    }
    Ok(())
}

#[test]
fn dropout_depends_on_step_and_part_and_not_on_what_came_before() -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut run = run(place.path())?;
    run.model.dropout = 0.5;
    let tokens: Vec<i64> = (0..4 * 9).collect();
    let mut learner = Learner::new(&run, &Origin::default(), Device::Cpu)?;
    let first = learner.backward(&run.train, &tokens, 8, 7);
    let _ = Tensor::randn([100], (Kind::Float, Device::Cpu));
    assert_eq!(learner.backward(&run.train, &tokens, 8, 7), first);
    assert_ne!(learner.backward(&run.train, &tokens, 8, 8), first);
    Ok(())
}

#[test]
fn the_first_loss_is_that_of_even_odds_and_one_sequence_is_learnt_by_heart() -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut run = run(place.path())?;
    run.model = DecoderConfig { initial_std: 0.02, ..tiny() };
    run.train.micro_batches = 1;
    let folder = RunFolder::create(&place.path().join("run"), false)?;
    let mut learner = Learner::new(&run, &Origin::default(), Device::Cpu)?;
    let about = crate::trained::About {
        run: run.clone(),
        dataset: String::new(),
        protocol: String::new(),
        label_names: Vec::new(),
        data_hash: String::new(),
        step: 0,
        valid_nats: None,
    };
    let mut state = learner.state(&folder, about);
    let tokens = [10, 3, 1, 4, 1, 5, 9, 2, 6];
    let mut losses = Vec::new();
    for step in 1..=120 {
        state.zero_grad();
        losses.push(learner.backward(&run.train, &tokens, 8, step));
        state.step(step, 1e-2, losses[losses.len() - 1])?;
    }
    assert!((losses[0] - 11f64.ln()).abs() < 0.1, "{}", losses[0]);
    assert!(losses[119] < 0.02, "{}", losses[119]);
    Ok(())
}

#[test]
fn every_parameter_is_in_one_group_and_matrices_decay() -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    let decoder = Decoder::new(&vs.root(), &tiny())?;
    let trained = core_layers::optim::parameters(&vs);
    let count: usize = trained.values().map(Tensor::numel).sum();
    assert_eq!(count as i64, tiny().parameters(), "each once: a tied head has no second weight");
    let names: Vec<String> = decoder.tensors().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| trained.contains_key(name)) && names.len() == trained.len());
    for (name, weight) in &trained {
        let is_matrix = !name.contains("norm") && !name.ends_with("bias");
        assert_eq!(weight.dim() >= 2, is_matrix, "{name} is in the wrong group");
    }
    Ok(())
}

#[test]
fn a_checkpoint_alone_says_how_to_read_text() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = run(place.path())?;
    let folder = RunFolder::create(&place.path().join("run"), false)?;
    train(&run, None, &folder, &|| false, &mut quiet)?;
    let copy = place.path().join("alone.safetensors");
    fs::copy(folder.file(MODEL), &copy)?;
    let trained = Trained::open(&copy, Weights::Ema, Device::Cpu)?;
    assert_eq!((trained.tokenizer, trained.weights), (Tokenizer::Bytes, "raw"));
    assert_eq!(trained.about.map(|it| it.run), Some(run));
    Ok(())
}

#[test]
fn further_training_starts_from_the_weights_that_were_given() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = run(place.path())?;
    tch::manual_seed(5);
    let given = Decoder::new(&nn::VarStore::new(Device::Cpu).root(), &run.model)?;
    let origin = Origin {
        weights: Some(given.weights()),
        tokenizer: Some(Tokenizer::Bytes),
        lora: Some(LoraConfig::default()),
        ..Origin::default()
    };
    let folder = RunFolder::create(&place.path().join("run"), false)?;
    let killed = train(&run, Some(&origin), &folder, &|| true, &mut quiet)?; // after one step
    assert_eq!(killed, Ending::Stopped { step: 1 });
    let base = Checkpoint::load(&folder.file(LAST))?.section("base.");
    for (name, weight) in given.tensors() {
        assert!(base[&name].equal(&weight.detach()), "{name} is frozen");
    }
    // resumed without the origin, which may be gone
    train(&run, None, &folder, &|| false, &mut quiet)?;
    let last = Checkpoint::load(&folder.file(LAST))?;
    for (name, weight) in given.tensors() {
        assert!(last.tensors[&format!("base.{name}")].equal(&weight.detach()), "{name}");
        let adapted = name.ends_with("query.weight") || name.ends_with("value.weight");
        assert_eq!(
            !last.tensors[&format!("raw.{name}")].equal(&weight.detach()),
            adapted,
            "{name}"
        );
    }
    let averaged = Run { train: TrainConfig { ema_decay: 0.9, ..run.train.clone() }, ..run };
    let other = RunFolder::create(&place.path().join("other"), false)?;
    let refusal = train(&averaged, Some(&origin), &other, &|| false, &mut quiet).unwrap_err();
    assert!(refusal.to_string().starts_with("train.ema_decay is 0.9"), "{refusal}");
    Ok(())
}

#[test]
fn what_learns_further_is_prompted_as_before_also_when_it_was_resumed() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = run(place.path())?;
    let given = Delivered {
        name: "elsewhere".into(),
        config: run.model.clone(),
        weights: Decoder::new(&nn::VarStore::new(Device::Cpu).root(), &run.model)?.weights(),
        tokenizer: Tokenizer::Bytes,
        stops: vec![7, 256],
        starts: false,
        chat_template: Some("{{ messages[0].content }}!".into()),
    };
    let origin = Origin {
        weights: Some(given.weights.clone()),
        tokenizer: Some(Tokenizer::Bytes),
        prompt: Some(formats::prompt(&given, "here")?),
        lora: None,
    };
    let folder = RunFolder::create(&place.path().join("run"), false)?;
    let killed = train(&run, Some(&origin), &folder, &|| true, &mut quiet)?;
    assert_eq!(killed, Ending::Stopped { step: 1 });
    let ensure_kept = |file| {
        let found = formats::open(&folder.file(file), Weights::Ema)?;
        assert_eq!((&*found.name, &found.stops, found.starts), ("here", &given.stops, false));
        assert_eq!(found.chat_template, given.chat_template);
        anyhow::Ok(())
    };
    ensure_kept(MODEL)?;
    train(&run, None, &folder, &|| false, &mut quiet)?;
    ensure_kept(MODEL)?;
    ensure_kept(LAST)
}

#[test]
fn a_vocabulary_below_the_tokenizers_is_refused() -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut run = run(place.path())?;
    (run.model.vocabulary, run.model.start) = (200, 0);
    let folder = RunFolder::create(&place.path().join("run"), false)?;
    let refusal = train(&run, None, &folder, &|| false, &mut quiet).unwrap_err().to_string();
    assert!(refusal.starts_with("model.vocabulary is 200, but must be at least 257"), "{refusal}");
    Ok(())
}

#[test]
fn a_z_loss_adds_the_gradient_of_the_mean_square_of_log_z_and_is_no_part_of_the_nats() -> Result<()>
{
    let place = tempfile::tempdir()?;
    let mut run = run(place.path())?;
    run.model.dropout = 0.;
    let tokens: Vec<i64> = (0..36).map(|i| i * 5 % 257).collect();
    let of_learner = |z_loss| -> Result<(f64, Tensor)> {
        let mut learner = Learner::new(&run, &Origin::default(), Device::Cpu)?;
        let config = TrainConfig { z_loss, ..run.train.clone() };
        let nats = learner.backward(&config, &tokens, 8, 1);
        Ok((nats, learner.decoder().embedding.grad()))
    };
    let [(nats, without), (same, with)] = [of_learner(0.)?, of_learner(0.5)?];
    assert_eq!(nats, same);

    let learner = Learner::new(&run, &Origin::default(), Device::Cpu)?;
    let all = Tensor::from_slice(&tokens).view([4, 9]);
    let logits = learner.decoder().forward(&all.narrow(1, 0, 8), true);
    let squares = logits.logsumexp([-1i64].as_slice(), false).square();
    (squares.mean(Kind::Float) * 0.5).backward();
    let wanted = learner.decoder().embedding.grad();
    let worst = (with - without - &wanted).abs().max().double_value(&[]);
    let size = wanted.abs().max().double_value(&[]);
    assert!(worst < 1e-5 * size, "{worst} of {size}");
    Ok(())
}
