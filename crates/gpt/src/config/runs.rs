//! Named runs. A preset is a function: its numbers stand here and nowhere else.
//!
//! Recipes of others say whose they are; of theirs, batches count tokens, here windows: tokens over the context.

use core_layers::{
    autocast::{Precision, cpu_has_bf16},
    schedule::{Decay, Schedule},
};

use super::{DecoderConfig, Positions, Run, Scaling, TrainConfig, preset};
use crate::data::DataConfig;

/// The name of every preset of a run.
pub const RUNS: [&str; 12] = [
    "demo",
    "book-gpt2",
    "book-llama",
    "char-small",
    "char",
    "gpt2",
    "gpt2-fineweb",
    "gpt2-edu",
    "gpt3-small",
    "llama-7b",
    "smollm2-135m",
    "finetune",
];

/// The preset of that name. Vocabulary and start token are those of the text once it is read.
pub fn run(name: &str) -> Option<Run> {
    match name {
        "demo" => demo(),
        "book-gpt2" | "book-llama" => Some(book(&preset(name)?)),
        "char-small" => char_small(),
        "char" => char(),
        "gpt2" => Some(large(preset("gpt2")?, &NANO_GPT)),
        "gpt2-fineweb" => Some(large(preset("gpt2")?, &LLM_C)),
        "gpt2-edu" => Some(large(preset("gpt2")?, &BUILD_NANO_GPT)),
        "gpt3-small" => Some(large(preset("gpt3-small")?, &GPT_3)),
        "llama-7b" => Some(large(preset("llama-7b")?, &LLAMA)),
        "smollm2-135m" => smollm2(),
        "finetune" => Some(finetune(preset("gpt2")?)),
        _ => None,
    }
}

/// GPT-2's layers at another size: layers, width and heads.
fn small([layers, d_model, heads]: [i64; 3], context: i64) -> Option<DecoderConfig> {
    Some(DecoderConfig {
        context,
        layers,
        d_model,
        heads,
        kv_heads: heads,
        d_head: d_model / heads,
        d_ff: 4 * d_model,
        ..preset("gpt2")?
    })
}

/// bf16 where the processor has it.
fn fast() -> Precision {
    if cpu_has_bf16() { Precision::Bf16 } else { Precision::F32 }
}

/// What all runs here share. The last weights of a rate that falls to little are as good as an average, so none is kept.
fn training(num_steps: u64, learning_rate: f64) -> TrainConfig {
    TrainConfig {
        num_steps,
        learning_rate,
        weight_decay: 0.1,
        beta2: 0.95,
        clip_norm: 1.,
        ema_decay: 0.,
        report_every: 10,
        num_samples: 1,
        ..TrainConfig::default()
    }
}

fn cosine(warmup_steps: u64) -> Schedule {
    Schedule { warmup_steps, decay: Decay::Cosine { floor: 0.1 } }
}

/// The demo: the embedded book in three minutes on two cores.
fn demo() -> Option<Run> {
    Some(Run {
        model: small([4, 256, 4], 128)?,
        data: DataConfig::default(),
        train: TrainConfig {
            batch_size: 8,
            schedule: Schedule { warmup_steps: 50, decay: Decay::Linear { floor: 0. } },
            save_every: 200,
            eval_examples: 64,
            precision: fast(),
            ..training(1200, 2e-3)
        },
    })
}

/// Some ten million parameters on a book, an hour on one core: the same for two architectures.
fn book(model: &DecoderConfig) -> Run {
    Run {
        model: DecoderConfig { dropout: 0.1, ..model.clone() },
        data: DataConfig { tokenizer: "bpe:4096".into(), ..DataConfig::default() },
        train: TrainConfig {
            batch_size: 12,
            schedule: cosine(100),
            save_every: 250,
            precision: fast(),
            ..training(2000, 1e-3)
        },
    }
}

/// nanoGPT's Shakespeare for laptops, on any text: 4 layers, 128 wide, 64 characters.
fn char_small() -> Option<Run> {
    Some(Run {
        model: DecoderConfig { biases: false, ..small([4, 128, 4], 64)? },
        data: DataConfig { tokenizer: "characters".into(), ..DataConfig::default() },
        train: TrainConfig {
            batch_size: 12,
            beta2: 0.99,
            schedule: cosine(100),
            save_every: 500,
            ..training(2000, 1e-3)
        },
    })
}

/// nanoGPT's Shakespeare for a GPU: 6 layers, 384 wide, 256 characters.
fn char() -> Option<Run> {
    Some(Run {
        model: DecoderConfig { biases: false, dropout: 0.2, ..small([6, 384, 6], 256)? },
        data: DataConfig { tokenizer: "characters".into(), ..DataConfig::default() },
        train: TrainConfig {
            batch_size: 64,
            beta2: 0.99,
            schedule: cosine(100),
            save_every: 250,
            precision: fast(),
            ..training(5000, 1e-3)
        },
    })
}

/// A published recipe.
struct Recipe {
    num_steps: u64,
    warmup_steps: u64,
    /// Tokens of a batch.
    tokens: i64,
    learning_rate: f64,
    /// The last rate as a part of the greatest.
    floor: f64,
}

/// nanoGPT, `config/train_gpt2.py`.
const NANO_GPT: Recipe = Recipe {
    num_steps: 600_000,
    warmup_steps: 2000,
    tokens: 491_520,
    learning_rate: 6e-4,
    floor: 0.1,
};
/// llm.c, `scripts/run_gpt2_124M.sh`: ten billion tokens of `FineWeb`.
const LLM_C: Recipe = Recipe {
    num_steps: 18_865,
    warmup_steps: 700,
    tokens: 524_288,
    learning_rate: 6e-4,
    floor: 0.,
};
/// build-nanogpt, `train_gpt2.py`: ten billion tokens of `FineWeb-Edu`.
const BUILD_NANO_GPT: Recipe = Recipe {
    num_steps: 19_073,
    warmup_steps: 715,
    tokens: 524_288,
    learning_rate: 6e-4,
    floor: 0.1,
};
/// Brown et al., "GPT-3", 2020, table 2.1 and appendix B: 300 billion tokens. Differs: the batch is full from the start, and
/// the rate falls until the end, not until 260 billion tokens.
const GPT_3: Recipe = Recipe {
    num_steps: 572_205,
    warmup_steps: 715,
    tokens: 524_288,
    learning_rate: 6e-4,
    floor: 0.1,
};
/// Touvron et al., "LLaMA", 2023, section 2.2 and table 2: a trillion tokens.
const LLAMA: Recipe = Recipe {
    num_steps: 238_419,
    warmup_steps: 2000,
    tokens: 4_194_304,
    learning_rate: 3e-4,
    floor: 0.1,
};

/// A model of others by a recipe of others; `--data` says on what.
fn large(model: DecoderConfig, recipe: &Recipe) -> Run {
    let batch_size = (recipe.tokens / model.context) as usize;
    let decay = Decay::Cosine { floor: recipe.floor };
    Run {
        data: DataConfig { tokenizer: "auto".into(), ..DataConfig::default() },
        train: TrainConfig {
            batch_size,
            micro_batches: batch_size / 8,
            schedule: Schedule { warmup_steps: recipe.warmup_steps, decay },
            save_every: 1000,
            eval_examples: 512,
            precision: Precision::Bf16,
            ..training(recipe.num_steps, recipe.learning_rate)
        },
        model,
    }
}

/// SmolLM2-135M's configuration: two trillion tokens, the rate falls over the last fifth. It reads 2,048 tokens and turns
/// them by an angle of 10,000, which were changed once it was trained.
fn smollm2() -> Option<Run> {
    let positions = Positions::Rope { theta: 1e4, scaling: Scaling::None };
    let model = DecoderConfig { context: 2048, positions, ..preset("smollm2-135m")? };
    let recipe = Recipe {
        num_steps: 2_000_000,
        warmup_steps: 2000,
        tokens: 1_048_576,
        learning_rate: 3e-3,
        floor: 0.,
    };
    let mut run = large(model, &recipe);
    run.train.weight_decay = 0.01;
    run.train.schedule.decay = Decay::Wsd { fraction: 400_000. / 1_998_000. };
    Some(run)
}

/// nanoGPT, `config/finetune_shakespeare.py`: a model of `train --from` goes on at a low rate, 32,768 tokens a step.
fn finetune(model: DecoderConfig) -> Run {
    Run {
        model,
        data: DataConfig { window: 256, ..DataConfig::default() },
        train: TrainConfig {
            batch_size: 128,
            micro_batches: 32,
            save_every: 5,
            report_every: 1,
            eval_examples: 64,
            precision: fast(),
            ..training(20, 3e-5)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_survives_json() -> anyhow::Result<()> {
        for name in RUNS {
            let run = run(name).expect("a listed preset exists");
            run.validate()?;
            assert_eq!(serde_json::from_str::<Run>(&serde_json::to_string(&run)?)?, run, "{name}");
            assert!(run.train.batch_size.is_multiple_of(run.train.micro_batches), "{name}");
        }
        assert!(run("no such preset").is_none());
        Ok(())
    }

    #[test]
    fn recipes_have_the_batches_and_rates_that_were_published() {
        let of = |name: &str| run(name).expect("listed");
        let tokens = |name: &str| of(name).train.batch_size as i64 * of(name).model.context;
        assert_eq!(tokens("gpt2"), 491_520);
        assert_eq!(tokens("gpt2-edu"), 524_288);
        assert_eq!(tokens("llama-7b"), 4_194_304);
        assert_eq!(tokens("smollm2-135m"), 1_048_576);
        let finetune = of("finetune");
        assert_eq!(finetune.train.batch_size * finetune.data.window, 32_768);
        let rate = |name: &str, step| of(name).train.rate(step);
        for (name, step, wanted) in [
            ("gpt2", 2000, 6e-4),
            ("gpt2", 600_000, 6e-5),
            ("gpt2-fineweb", 18_865, 0.),
            ("llama-7b", 1000, 1.5e-4),
            ("smollm2-135m", 1_600_000, 3e-3),
            ("smollm2-135m", 1_800_000, 1.5e-3),
            ("smollm2-135m", 2_000_000, 0.),
        ] {
            assert!(
                (rate(name, step) - wanted).abs() < 1e-9,
                "{name} at {step}: {}",
                rate(name, step)
            );
        }
        assert_eq!(of("gpt2").model.parameters(), 124_439_808);
        assert_eq!(of("smollm2-135m").model.parameters(), 134_515_008);
        assert_eq!(of("llama-7b").model.parameters(), 6_738_415_616);
    }
}
