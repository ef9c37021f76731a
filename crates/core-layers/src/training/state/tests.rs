//! A run that is saved and taken up again.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::*;
use crate::{ConfigError, training::Run};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line;

impl Part for Line {
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl Architecture for Line {
    const NAME: &'static str = "line";

    fn least_parameters(&self) -> i64 {
        1
    }
}

fn about(threads: usize, data_hash: &str) -> About<Line, Line> {
    About {
        run: Run {
            model: Line,
            data: Line,
            train: TrainConfig { threads, ..TrainConfig::default() },
        },
        dataset: "points".into(),
        protocol: "all".into(),
        label_names: Vec::new(),
        data_hash: data_hash.into(),
        step: 0,
        valid_nats: None,
    }
}

fn line() -> (nn::VarStore, Tensor) {
    let vs = nn::VarStore::new(Device::Cpu);
    let slope = vs.root().zeros("slope", &[1]);
    (vs, slope)
}

fn learn(state: &mut TrainState<'_, Line, Line>, slope: &Tensor, step: u64) -> Result<f64> {
    state.zero_grad();
    let loss = (slope - 1.).square().sum(Kind::Float);
    loss.backward();
    state.step(step, 0.1, loss.double_value(&[]))
}

#[test]
fn a_saved_state_is_taken_up_with_its_moments() -> Result<()> {
    let place = tempfile::tempdir()?;
    let folder = RunFolder::create(place.path(), false)?;
    let (vs, slope) = line();
    let mut state = TrainState::new(&folder, &vs, about(1, "a"));
    state.begin(&mut |report| panic!("{report:?}"))?;
    for step in 1..=3 {
        learn(&mut state, &slope, step)?;
    }
    assert!(state.save(3, 0.5)?);
    assert!(!state.save(3, 0.6)?, "more nats are not the best");
    learn(&mut state, &slope, 4)?;

    let (again, second) = line();
    let mut resumed = TrainState::new(&folder, &again, about(2, "a"));
    let mut said = Vec::new();
    resumed.begin(&mut |report| said.push(report))?;
    let warning = "threads was 1, is 2: the bits will differ from an unbroken run";
    assert_eq!(said, [Report::Warning(warning.into()), Report::Resumed { step: 3 }]);
    assert_eq!((resumed.about().step, resumed.about().valid_nats), (3, Some(0.5)));
    learn(&mut resumed, &second, 4)?;
    assert_eq!(second, slope);
    resumed.swap();
    state.swap();
    assert_eq!(second, slope, "the averages as well");
    Ok(())
}

#[test]
fn adapters_are_resumed_beside_their_base_and_the_merged_weights_are_what_is_used() -> Result<()> {
    let place = tempfile::tempdir()?;
    let folder = RunFolder::create(place.path(), false)?;
    let named = |value: f64| {
        let x = Tensor::full([1], value, (Kind::Float, Device::Cpu));
        BTreeMap::from([("slope".to_owned(), x)])
    };
    let no_average = || {
        let mut about = about(1, "a");
        about.run.train.ema_decay = 0.;
        about
    };
    let (adapter, base) = (named(0.), named(7.));
    let slope = adapter["slope"].set_requires_grad(true);
    let given = || adapter.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    let mut state = TrainState::adapting(&folder, given(), base, no_average())
        .saying("tokenizer", "bytes".into());
    state.save_start(&named(7.))?;
    state.begin(&mut |report| panic!("{report:?}"))?;
    assert!(folder.file(CONFIG).exists());
    learn(&mut state, &slope, 1)?;
    state.save_merged(1, 0.5, &named(9.))?;

    let used = Checkpoint::load(&folder.file(MODEL))?;
    assert_eq!(used.metadata["tokenizer"], "bytes");
    assert_eq!(used.tensors.keys().collect::<Vec<_>>(), ["raw.slope"]);
    assert_eq!(used.tensors["raw.slope"].double_value(&[0]), 9.);
    let (other, blank) = (named(0.), named(0.));
    let shared = |x: &Tensor| BTreeMap::from([("slope".to_owned(), x.shallow_clone())]);
    let (second, kept) = (shared(&other["slope"]), shared(&blank["slope"]));
    let mut resumed = TrainState::adapting(&folder, second, kept, no_average());
    let mut said = Vec::new();
    resumed.begin(&mut |report| said.push(report))?;
    assert_eq!(said, [Report::Resumed { step: 1 }]);
    assert_eq!(other["slope"], slope);
    assert_eq!(blank["slope"].double_value(&[0]), 7.);
    Ok(())
}

#[test]
fn other_data_and_losses_that_are_no_numbers_are_refused() -> Result<()> {
    let place = tempfile::tempdir()?;
    let folder = RunFolder::create(place.path(), false)?;
    let (vs, slope) = line();
    let mut state = TrainState::new(&folder, &vs, about(1, "a"));
    let refusal = state.step(1, 0.1, f64::NAN).unwrap_err().to_string();
    assert!(refusal.contains("the loss is NaN at step 1; the last good state is none yet"));
    learn(&mut state, &slope, 1)?;
    state.save(1, 0.5)?;
    let refusal = state.step(2, 0.1, f64::INFINITY).unwrap_err().to_string();
    assert!(refusal.contains("last.safetensors (step 1)"), "{refusal}");
    let mut other = TrainState::new(&folder, &vs, about(1, "b"));
    let refusal = other.begin(&mut |_| {}).unwrap_err().to_string();
    assert!(refusal.contains("was trained on other data"), "{refusal}");
    Ok(())
}
