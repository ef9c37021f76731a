//! Gradients, and what following them does.

use core_layers::optim::{self, AdamW, AdamWConfig};

use super::*;

/// Mean nats in f64.
fn nats(model: &Decoder, xs: &Tensor) -> Tensor {
    let time = xs.size()[1] - 1;
    let log_probs = model.forward(&xs.narrow(1, 0, time), true).log_softmax(-1, Kind::Double);
    log_probs.gather(-1, &xs.narrow(1, 1, time).unsqueeze(-1), false).mean(Kind::Double).neg()
}

#[test]
fn gradients_are_finite_differences_in_double_precision() {
    for (family, config) in families() {
        let (mut vs, model) = random(&config);
        vs.double();
        let xs = tokens(&config, 2, 10);
        nats(&model, &xs).backward();
        for (name, tensor) in model.tensors() {
            let gradient = tensor.grad().view(-1);
            let flat = tensor.detach().view(-1);
            // the entry of the greatest slope, and one that is chosen by the name's length
            let places = [gradient.abs().argmax(None, false).int64_value(&[]), name.len() as i64];
            for place in places.map(|place| place % flat.size()[0]) {
                let entry = flat.get(place);
                let at = entry.double_value(&[]);
                let step = 1e-5;
                let [above, below] = [at + step, at - step].map(|value| {
                    let _ = entry.shallow_clone().fill_(value);
                    tch::no_grad(|| nats(&model, &xs)).double_value(&[])
                });
                let _ = entry.shallow_clone().fill_(at);
                let slope = (above - below) / (2. * step);
                let found = gradient.double_value(&[place]);
                assert!(
                    (found - slope).abs() < 1e-7 + 1e-5 * slope.abs(),
                    "{family}: {name}[{place}]: {found} but {slope}"
                );
            }
        }
    }
}

#[test]
fn one_text_is_learnt_by_heart() {
    for (family, config) in families() {
        tch::manual_seed(4);
        let vs = nn::VarStore::new(Device::Cpu);
        let config = DecoderConfig { initial_std: 0.1, ..config };
        let model = Decoder::new(&vs.root(), &config).expect("a sound configuration");
        let xs = tokens(&config, 1, 13);
        let mut optimizer = AdamW::new(&optim::parameters(&vs), AdamWConfig::default());
        let mut last = f64::NAN;
        for _ in 0..120 {
            optimizer.zero_grad();
            let loss = model.nll(&xs, true);
            loss.backward();
            optimizer.step(2e-2);
            last = loss.double_value(&[]);
        }
        assert!(last < 0.02, "{family}: {last}");
    }
}
