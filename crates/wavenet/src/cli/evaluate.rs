//! `evaluate` and `classify`: numbers about a network on clips.

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError, bayes,
    cli::{ModelArgs, counted, with_error},
    dataset::Split,
    likelihood::{Likelihood, Tally},
    overrides::Overrides,
    run::Ticker,
};
use serde_json::json;

use super::{baselines, load, print_json};
use crate::{
    data::{self, Clip, Condition, DataConfig, Dataset},
    evaluate,
    trained::Trained,
};

/// The clips that a command speaks of.
#[derive(Debug, Args)]
pub(super) struct ClipsArgs {
    #[command(flatten)]
    data: Overrides<DataConfig>,
    /// Which of its splits.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
}

impl ClipsArgs {
    /// The clips that the network was trained with, or those that the flags name, checked against the network.
    fn load(&self, trained: &Trained) -> Result<Dataset> {
        let mut dataset = data::load(&self.data.apply(trained.about.run.data.clone())?)?;
        dataset.ensure_split(self.split)?;
        if trained.model.config().speakers > 0 {
            dataset = dataset.with_speakers_of(&trained.about.label_names)?;
        }
        evaluate::ensure_fits(trained.model.config(), &dataset)?;
        let (then, now) = (&trained.about.run.data, dataset.encoding);
        ensure!(
            then.encoding == now,
            "{}: its levels are encoded as {now:?}, the model's as {:?}",
            dataset.name,
            then.encoding
        );
        Ok(dataset)
    }
}

/// Samples of each clip.
pub(super) fn dims(clips: &[Clip]) -> Vec<usize> {
    clips.iter().map(|clip| clip.levels.len()).collect()
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wavenet evaluate runs/voice --split test --baselines")]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clips: ClipsArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Measure simple models and FLAC on the same clips as well.
    #[arg(long)]
    baselines: bool,
    /// List the K clips with most bits per sample.
    #[arg(long, value_name = "K", default_value_t = 0)]
    worst: usize,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `evaluate`.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    let (trained, device) = load(&args.model)?;
    let dataset = args.clips.load(&trained)?;
    let clips = dataset.split(args.clips.split);
    let dims = dims(clips);
    let ticker = Ticker::new("evaluate", dims.iter().sum(), args.quiet || args.json);
    let autocast = args.model.precision.autocast(device);
    let tally = evaluate::nats(&trained.model, clips, device, &mut |count| ticker.tick(count));
    drop((ticker, autocast));
    let likelihood = tally.likelihood_of(&dims);
    let baselines = if args.baselines {
        Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))?; // they are fitted
        baselines::all(&dataset, clips)?
    } else {
        Vec::new()
    };
    let worst = worst(&tally, clips, args.worst);
    let given = given(&trained);
    if args.json {
        let mut json = serde_json::to_value(&likelihood)?;
        let more = json!({
            "model": "wavenet",
            "dataset": dataset.name,
            "protocol": dataset.protocol,
            "split": args.clips.split.name(),
            "example": "clip",
            "seconds": dataset.seconds(args.clips.split),
            "given": given,
            "weights": trained.weights.name(),
            "step": trained.about.step,
            "entropy_nats_per_sample": dataset.entropy_nats,
            "baselines_bits_per_dim": baselines.iter().map(|(name, bits)| json!({"name": name, "bits_per_dim": bits})).collect::<Vec<_>>(),
            "worst": worst.iter().map(|(clip, bits)| json!({"clip": clip, "bits_per_dim": bits})).collect::<Vec<_>>(),
        });
        if let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) {
            json.extend(more.clone());
        }
        print_json(&json);
        return Ok(());
    }
    let Likelihood { examples, nats, nats_se, bits_per_dim, bits_per_dim_se, .. } = likelihood;
    println!("{} bits per sample", with_error(bits_per_dim, bits_per_dim_se, 4));
    println!(
        "{} nats per clip over {} ({:.0} s) of {}, given {given}",
        with_error(nats, nats_se, 0),
        counted(examples, &format!("{} clip", args.clips.split.name())),
        dataset.seconds(args.clips.split),
        dataset.name
    );
    println!(
        "{} weights of step {}; {}",
        trained.weights.name(),
        trained.about.step,
        dataset.protocol
    );
    for (name, bits) in baselines {
        println!("{bits:8.4} bits per sample: {name}");
    }
    for (clip, bits) in worst {
        println!("{bits:8.4} bits per sample  {clip}");
    }
    Ok(())
}

/// What the network is told of a clip.
fn given(trained: &Trained) -> &'static str {
    let speaker = trained.model.config().speakers > 0;
    match (speaker, trained.about.run.data.condition) {
        (false, Condition::None) => "nothing",
        (true, Condition::None) => "speaker",
        (false, Condition::Characters) => "characters",
        (true, Condition::Characters) => "speaker and characters",
        (false, Condition::Mel) => "mel spectrogram",
        (true, Condition::Mel) => "speaker and mel spectrogram",
        (false, Condition::Npy) => "features",
        (true, Condition::Npy) => "speaker and features",
    }
}

/// The clips with most bits per sample, by name.
fn worst(tally: &Tally, clips: &[Clip], count: usize) -> Vec<(String, f64)> {
    let bits = |(clip, nats): (&Clip, &f64)| {
        (clip.name.clone(), nats / (clip.levels.len() as f64 * std::f64::consts::LN_2))
    };
    let mut all: Vec<(String, f64)> = clips.iter().zip(tally.examples()).map(bits).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(count);
    all
}

/// Flags of `classify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wavenet classify runs/speech --split test")]
pub struct ClassifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clips: ClipsArgs,
    /// Only the first clips; 0 takes all.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `classify`.
pub(super) fn classify(args: &ClassifyArgs) -> Result<()> {
    let (trained, device) = load(&args.model)?;
    let speakers = trained.model.config().speakers as usize;
    ConfigError::ensure(
        speakers > 1,
        "model.speakers",
        speakers,
        "2 or more: only a network told the speaker can tell who speaks",
    )?;
    let dataset = args.clips.load(&trained)?;
    let mut clips = dataset.split(args.clips.split).to_vec();
    if args.first > 0 {
        // clips lie speaker by speaker
        clips = spread(&clips, args.first);
    }
    let samples: usize = dims(&clips).iter().sum();
    let ticker = Ticker::new("classify", samples * speakers, args.quiet || args.json);
    let autocast = args.model.precision.autocast(device);
    let nats =
        evaluate::nats_by_speaker(&trained.model, &clips, device, &mut |count| ticker.tick(count));
    drop((ticker, autocast));
    let labels: Vec<u32> = clips.iter().map(|clip| clip.speaker).collect();
    let classified = bayes::Classified::new(&nats, &labels, speakers);
    let (accuracy, low, high) = classified.accuracy();
    if args.json {
        print_json(&json!({
            "model": "wavenet",
            "dataset": dataset.name,
            "split": args.clips.split.name(),
            "examples": clips.len(),
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "speaker_nats": classified.label_nats,
            "confusion": classified.confusion,
            "label_names": dataset.speakers,
            "weights": trained.weights.name(),
        }));
        return Ok(());
    }
    println!(
        "accuracy {:.2} % ({:.2} to {:.2} % at 95 %), {} of {} by argmax p(speaker | clip)",
        100. * accuracy,
        100. * low,
        100. * high,
        classified.right(),
        counted(clips.len(), "clip")
    );
    println!("rows: who speaks; columns: who was taken to");
    println!("{}", classified.table(&dataset.speakers));
    Ok(())
}

/// `count` clips spread evenly over all of them.
fn spread(clips: &[Clip], count: usize) -> Vec<Clip> {
    let count = count.min(clips.len());
    (0..count).map(|i| clips[i * clips.len() / count].clone()).collect()
}
