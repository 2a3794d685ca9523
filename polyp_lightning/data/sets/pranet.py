"""PraNet's protocol: Kvasir-SEG and CVC-ClinicDB together (Fan et al., 2020, doi 10.1007/978-3-030-59725-2_26)."""

from polyp_lightning.data.dataset import Split, describe_published
from polyp_lightning.data.sets import clinicdb, kvasir

TEST_FOLDER = "TestDataset"
TESTS = ("Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "CVC-300", "ETIS-LaribPolypDB")
"""The five test sets that this literature reports on, by their folders' names in its archive."""

SPEC = describe_published(
    "pranet",
    {
        "900-550": Split(
            "PraNet's 900 Kvasir-SEG and 550 CVC-ClinicDB, a tenth of each validates, its two in-distribution tests; "
            "each ClinicDB test frame's sequence is in train too",
            {kvasir.IMAGES: "kvasir-pranet", clinicdb.IMAGES: "clinicdb-pranet"},
        )
    },
)
