//! Folders, whole, wrong and hostile; what is exported and opened again.

use core_layers::encoded::Encoding;

use super::*;
use crate::{
    config::{Attention, FeedForward, Positions, Scaling},
    formats::tests::{fixture, for_edits, greatest_difference, path},
    weights::names as weight_names,
};

const FOLDERS: [&str; 5] =
    ["gpt2-tied", "gpt2-erf", "llama-grouped", "llama-scaled", "llama-linear"];

/// The line that refuses a fixture whose `config.json` has other fields.
fn refusal(folder: &str, changes: &[(&str, Value)]) -> String {
    let mut object = json(&path(folder).join(CONFIG)).unwrap();
    for (name, value) in changes {
        object.insert((*name).into(), value.clone());
    }
    let line = config::read(&object).unwrap_err();
    format!("{line:#}")
}

#[test]
fn configurations_are_what_transformers_means() {
    let scaled = fixture("llama-scaled").config;
    let scaling = Scaling::Llama3 {
        factor: 4.,
        low_frequency_factor: 1.,
        high_frequency_factor: 4.,
        original_context: 64,
    };
    assert_eq!(scaled.positions, Positions::Rope { theta: 100., scaling });
    assert_eq!(
        (scaled.heads, scaled.kv_heads, scaled.d_head, scaled.biases, scaled.tied),
        (3, 1, 8, true, true)
    );
    let linear = fixture("llama-linear").config; // as versions before 5 wrote it
    assert_eq!(
        linear.positions,
        Positions::Rope { theta: 10_000., scaling: Scaling::Linear { factor: 2.5 } }
    );
    let erf = fixture("gpt2-erf").config;
    assert_eq!(
        (erf.feed_forward, erf.norm_epsilon, erf.d_ff, erf.tied),
        (FeedForward::Gelu, 1e-3, 50, false)
    );
    assert_eq!((erf.start, fixture("gpt2-erf").stops), (3, vec![5]));
}

#[test]
fn fields_that_change_the_maths_are_refused_by_name() {
    for (folder, name, value, wanted) in [
        (
            "gpt2-tied",
            "activation_function",
            "relu".into(),
            "activation_function is \"relu\", but must be one of gelu_new, gelu_pytorch_tanh, gelu",
        ),
        (
            "gpt2-tied",
            "scale_attn_weights",
            false.into(),
            "scale_attn_weights is false, but must be true",
        ),
        (
            "gpt2-tied",
            "scale_attn_by_inverse_layer_idx",
            true.into(),
            "scale_attn_by_inverse_layer_idx is true, but must be false",
        ),
        ("gpt2-tied", "n_head", 5.into(), "n_head is 5, but must be a divisor of n_embd, 36"),
        ("gpt2-tied", "n_head", 0.into(), "n_head is 0, but must be a divisor of n_embd, 36"),
        ("gpt2-tied", "n_embd", "x".into(), "n_embd is \"x\", but must be a whole number"),
        ("gpt2-tied", "n_embd", Value::Null, "n_embd is missing"),
        (
            "gpt2-tied",
            "sliding_window",
            7.into(),
            "sliding_window is 7, but must be left out: nobody here knows what it changes",
        ),
        ("llama-linear", "hidden_act", "gelu".into(), "hidden_act is \"gelu\", but must be silu"),
        (
            "llama-linear",
            "mlp_bias",
            true.into(),
            "mlp_bias is true, but must be what attention_bias is, false",
        ),
        (
            "llama-linear",
            "num_attention_heads",
            0.into(),
            "num_attention_heads is 0, but must be at least 1",
        ),
        (
            "llama-linear",
            "num_hidden_layers",
            i64::MAX.into(),
            "model.layers is 9223372036854775807, but must be between 1 and 16777216",
        ),
        (
            "llama-linear",
            "quantization_config",
            serde_json::json!({"bits": 4}),
            "quantization_config is {\"bits\":4}, but must be left out: nobody here knows what it changes",
        ),
        (
            "llama-linear",
            "rope_scaling",
            serde_json::json!({"type": "yarn", "factor": 2.0}),
            "rope_scaling: rope_type is \"yarn\", but must be one of default, linear, llama3",
        ),
        (
            "llama-linear",
            "rope_scaling",
            serde_json::json!({"type": "linear"}),
            "rope_scaling: factor is missing",
        ),
        (
            "llama-linear",
            "rope_scaling",
            serde_json::json!({"type": "linear", "factor": 2.0, "x": 1}),
            "rope_scaling: x is 1, but must be left out: nobody here knows what it changes",
        ),
        (
            "llama-linear",
            "architectures",
            serde_json::json!(["MistralForCausalLM"]),
            "architectures[0] is \"MistralForCausalLM\", but must be one of GPT2LMHeadModel, LlamaForCausalLM",
        ),
    ] {
        assert_eq!(refusal(folder, &[(name, value)]), wanted);
    }
}

#[test]
fn numbers_of_tokens_beyond_the_vocabulary_count_as_not_given() {
    let mut object = json(&path("gpt2-tied").join(CONFIG)).unwrap();
    object.insert("bos_token_id".into(), 50_256.into());
    assert_eq!(config::read(&object).unwrap().1.start, 5, "the end token");
    object.insert("eos_token_id".into(), 50_256.into());
    assert_eq!(config::read(&object).unwrap().1.start, 0);
}

/// A copy of a fixture's folder.
fn copy(folder: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(path(folder)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[test]
fn folders_that_contradict_themselves_are_refused_in_one_line() {
    let line = |folder: &tempfile::TempDir| {
        let line = format!(
            "{:#}",
            crate::formats::open(folder.path(), core_layers::checkpoint::Weights::Ema).unwrap_err()
        );
        assert!(!line.contains('\n'), "{line}");
        line.replace(&folder.path().display().to_string(), "")
    };
    let folder = copy("gpt2-erf");
    let index = folder.path().join(INDEX);
    let good = fs::read_to_string(&index).unwrap();
    fs::write(&index, good.replace("model-00002-of-00002", "../../etc/passwd")).unwrap();
    assert!(line(&folder).ends_with("is no name of a file beside it"), "{}", line(&folder));
    fs::write(&index, good.replace("model-00002-of-00002", "model-00001-of-00002")).unwrap();
    assert!(line(&folder).contains("is missing, the configuration needs"), "{}", line(&folder));
    fs::remove_file(&index).unwrap();
    assert_eq!(line(&folder), ": holds neither model.safetensors nor model.safetensors.index.json");
    fs::write(folder.path().join(CONFIG), "[".repeat(1000)).unwrap();
    assert!(line(&folder).starts_with("/config.json: is no JSON object: "), "{}", line(&folder));
}

#[test]
fn gpt_2_s_first_names_and_masks_are_read_as_well() {
    let wanted = fixture("gpt2-tied");
    let mut tensors = tensors(&path("gpt2-tied")).unwrap();
    let mask = tensors["transformer.ln_f.weight"].clone();
    tensors =
        tensors.into_iter().map(|(name, raw)| (name.replace("transformer.", ""), raw)).collect();
    tensors.insert("h.0.attn.bias".into(), mask.clone());
    let found = names::weights(config::Kind::Gpt2, &wanted.config, tensors.clone()).unwrap();
    assert_eq!(
        found.of("layers.1.attention.key.weight").to_f32(),
        wanted.weights.of("layers.1.attention.key.weight").to_f32()
    );
    tensors.insert("lm_head.weight".into(), tensors["wte.weight"].clone());
    assert!(
        names::weights(config::Kind::Gpt2, &wanted.config, tensors.clone()).is_ok(),
        "the embedding again"
    );
    tensors.insert("lm_head.weight".into(), mask);
    let line = names::weights(config::Kind::Gpt2, &wanted.config, tensors.clone())
        .unwrap_err()
        .to_string();
    assert_eq!(
        line,
        "tensor \"lm_head.weight\" is not the embedding, but tie_word_embeddings is true"
    );
    tensors.remove("lm_head.weight");
    tensors.insert("transformer.wte.weight".into(), tensors["wte.weight"].clone());
    let line = names::weights(config::Kind::Gpt2, &wanted.config, tensors).unwrap_err().to_string();
    assert_eq!(line, "tensor \"wte.weight\" stands there under another name too");
}

#[test]
fn what_is_exported_is_opened_again_as_it_was() {
    for name in FOLDERS.into_iter().chain(["gguf-text/model.gguf"]) {
        let (model, folder) = (fixture(name), tempfile::tempdir().unwrap());
        export(&model, folder.path(), None).unwrap();
        let back = open(folder.path()).unwrap();
        assert_eq!(back.config, model.config, "{name}");
        assert_eq!(
            (&back.stops, back.starts, &back.chat_template),
            (&model.stops, model.starts, &model.chat_template)
        );
        for weight in weight_names(&model.config).keys() {
            assert_eq!(
                back.weights.of(weight).to_f32(),
                model.weights.of(weight).to_f32(),
                "{name}, {weight}"
            );
        }
        let has_head = tensors(folder.path()).unwrap().contains_key("lm_head.weight");
        assert_eq!(has_head, !model.config.tied, "{name}: a tied head is left out");
        let words = "the rat ran to that hat at 12:30";
        assert_eq!(back.tokenizer.encode(words), model.tokenizer.encode(words), "{name}");
    }
}

#[test]
fn half_precision_is_exported_where_it_is_asked_for() {
    let (model, folder) = (fixture("gpt2-tied"), tempfile::tempdir().unwrap());
    export(&model, folder.path(), Some(Encoding::F16)).unwrap();
    let back = open(folder.path()).unwrap();
    assert!(back.weights.0.values().all(|it| it.encoding() == Encoding::F16));
    let greatest = greatest_difference(&back, "gpt2-tied");
    assert!(greatest < 0.02 && greatest > 1e-5, "{greatest}");
    let line = export(&model, folder.path(), Some(Encoding::Q8_0)).unwrap_err().to_string();
    assert_eq!(line, "--encoding is q8_0, but must be one of f32, f16, bf16");
}

#[test]
fn decoders_without_a_class_are_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = fixture("gpt2-tied");
    model.config.attention = Attention::Alternating { band: 4 };
    let line = export(&model, folder.path(), None).unwrap_err().to_string();
    assert!(
        line.starts_with("model.attention is {") && line.contains("but must be dense"),
        "{line}"
    );
    let mut model = fixture("llama-grouped");
    model.config.feed_forward = FeedForward::Gelu;
    let line = export(&model, folder.path(), None).unwrap_err().to_string();
    assert!(line.starts_with("model.feed_forward is \"gelu\", but must be swi_glu"), "{line}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn an_edited_or_cut_configuration_is_read_or_refused() {
    let text = fs::read(path("llama-scaled").join(CONFIG)).unwrap();
    for_edits(&text, 2000, |edited| {
        if let Ok(object) = serde_json::from_slice::<Map<String, Value>>(&edited) {
            let _ = config::read(&object);
        }
    });
}
