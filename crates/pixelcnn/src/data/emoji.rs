//! Emoji on white, their categories as classes, as laid by `scripts/fetch emoji` (`datasets/emoji/README.md`).

use anyhow::Result;
use core_layers::{dataset::Split, fetched};

use super::dataset::Source;
use super::{DataConfig, folder};

const USUAL_SIDE: u32 = 32;

/// The fetched emoji, averaged over areas down to the side of the configuration.
pub(super) fn read(config: &DataConfig) -> Result<Source> {
    let rule = folder::Rule {
        split_of: |path| Split::of_name(&figure(path)),
        words: "by the first 8 bytes of the sha256 of the code points less gender and skin, big endian, mod 10: 0..=7 \
                trains, 8 validates, 9 tests",
        side: config.side_or(USUAL_SIDE) as u32,
        once: true,
        max_values: folder::MAX_VALUES,
    };
    folder::read_by(&fetched::folder("emoji")?, "emoji", &rule, config)
}

/// What an emoji shows, whoever does it: its code points without man, woman, person, gender, skin and joiners. Pictures
/// that differ in these only are nearly the same, and must not part.
fn figure(path: &str) -> String {
    const WHO: [&str; 12] = [
        "1f468", "1f469", "1f9d1", "2640", "2642", "200d", "fe0f", "1f3fb", "1f3fc", "1f3fd",
        "1f3fe", "1f3ff",
    ];
    let base = path.rsplit('/').next().unwrap_or_default();
    let points: Vec<&str> = base.trim_end_matches(".png").split('-').collect();
    let what: Vec<&str> = points.iter().copied().filter(|point| !WHO.contains(point)).collect();
    if what.is_empty() { points[0].to_owned() } else { what.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_one_figure_share_a_split() {
        let runners =
            ["1f3c3.png", "people/1f3c3-200d-2640-fe0f.png", "1f3c3-1f3ff-200d-2642-fe0f.png"];
        assert!(runners.iter().all(|path| figure(path) == "1f3c3"));
        assert_eq!(figure("1f468-200d-2695-fe0f.png"), figure("1f469-200d-2695-fe0f.png"));
        assert_eq!(figure("flags/1f1ea-1f1ec.png"), "1f1ea-1f1ec");
        assert_eq!(figure("1f468.png"), "1f468");
    }
}
