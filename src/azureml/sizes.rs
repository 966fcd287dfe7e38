//! How many GPUs a VM size has, from its name: Azure's N-series say it by their number of cores.

/// GPUs by size, in lower case without `standard_`; fractions of a GPU count as one.
const GPUS: &[(&str, u64)] = &[
    ("nc6", 1),
    ("nc12", 2),
    ("nc24", 4),
    ("nc24r", 4),
    ("nc6s_v2", 1),
    ("nc12s_v2", 2),
    ("nc24s_v2", 4),
    ("nc24rs_v2", 4),
    ("nc6s_v3", 1),
    ("nc12s_v3", 2),
    ("nc24s_v3", 4),
    ("nc24rs_v3", 4),
    ("nc4as_t4_v3", 1),
    ("nc8as_t4_v3", 1),
    ("nc16as_t4_v3", 1),
    ("nc64as_t4_v3", 4),
    ("nc24ads_a100_v4", 1),
    ("nc48ads_a100_v4", 2),
    ("nc96ads_a100_v4", 4),
    ("nc40ads_h100_v5", 1),
    ("nc80adis_h100_v5", 2),
    ("ncc40ads_h100_v5", 1),
    ("nd6s", 1),
    ("nd12s", 2),
    ("nd24s", 4),
    ("nd24rs", 4),
    ("nd40rs_v2", 8),
    ("nd96asr_v4", 8),
    ("nd96amsr_a100_v4", 8),
    ("nd96isr_h100_v5", 8),
    ("nd96isr_h200_v5", 8),
    ("nd96isr_mi300x_v5", 8),
    ("nv6", 1),
    ("nv12", 2),
    ("nv24", 4),
    ("nv12s_v3", 1),
    ("nv24s_v3", 2),
    ("nv48s_v3", 4),
    ("nv4as_v4", 1),
    ("nv8as_v4", 1),
    ("nv16as_v4", 1),
    ("nv32as_v4", 1),
    ("nv6ads_a10_v5", 1),
    ("nv12ads_a10_v5", 1),
    ("nv18ads_a10_v5", 1),
    ("nv36ads_a10_v5", 1),
    ("nv36adms_a10_v5", 1),
    ("nv72ads_a10_v5", 2),
];

/// How many GPUs a size has; `None` if it is of the N-series and not known.
pub(super) fn gpus(size: &str) -> Option<u64> {
    let low = size.to_ascii_lowercase();
    let name = low.strip_prefix("standard_").or_else(|| low.strip_prefix("basic_"))?;
    match GPUS.iter().find(|(known, _)| *known == name) {
        Some((_, gpus)) => Some(*gpus),
        // Only the N-series and the confidential H100 have GPUs.
        None => (!name.starts_with('n')).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::gpus;

    #[test]
    fn the_case_of_a_size_does_not_count_and_an_unknown_one_is_not_guessed() {
        assert_eq!(gpus("Standard_NC24rs_v3"), Some(4));
        assert_eq!(gpus("STANDARD_ND96ISR_H100_V5"), Some(8));
        assert_eq!(gpus("Standard_DS3_v2"), Some(0));
        assert_eq!(gpus("Standard_NC999x_v9"), None);
        assert_eq!(gpus("gpu-pool"), None);
    }
}
