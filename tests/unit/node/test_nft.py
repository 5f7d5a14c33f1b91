from pathlib import Path

import pytest

from pilotfish.node import netns, nft, preflight


@pytest.mark.root
def test_a_refusal_quotes_the_words_of_nft_and_the_line() -> None:
    script = nft.replace_table("pilotfish", "    chain c {\n        tcp dport nonsense accept\n    }\n")
    with pytest.raises(nft.NftError) as caught:
        netns.run_in_new(lambda: nft.run_nft(script))
    assert "tcp dport nonsense accept" in str(caught.value)
    assert "Error:" in str(caught.value)


@pytest.mark.root
def test_replacing_a_table_leaves_nothing_of_the_old_one_and_a_refused_script_changes_nothing() -> None:
    def body() -> None:
        nft.run_nft(nft.replace_table("pilotfish-a", "    chain old { }\n"))
        nft.run_nft(nft.replace_table("pilotfish-a", "    chain new { }\n"))
        nft.run_nft(nft.replace_table("other", ""))
        assert nft.tables("pilotfish-") == ["pilotfish-a"]
        with pytest.raises(nft.NftError):
            nft.run_nft("delete table inet other\ndelete table inet missing\n")
        assert nft.tables("o") == ["other"]
        listed = nft.run_nft("list table inet pilotfish-a\n")
        assert "chain new" in listed
        assert "chain old" not in listed

    netns.run_in_new(body)


def test_a_missing_nft_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "nft_program", lambda: None)
    with pytest.raises(nft.NftError, match="apt-get install nftables"):
        nft.run_nft("")


@pytest.mark.root
def test_preflight_finds_nothing_wrong_here_and_leaves_nothing() -> None:
    links = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("probe"))
    assert preflight.preflight() == []
    assert links == []


@pytest.mark.root
def test_preflight_names_what_is_missing_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "nft_program", lambda: None)
    monkeypatch.setattr(preflight, "_NFT_FEATURES", {"nat": "chain c { nonsense; }"})
    assert [problem.remedy for problem in preflight.preflight()] == ["apt-get install nftables"]
    monkeypatch.setattr(preflight, "nft_program", lambda: "nft")
    (problem,) = preflight.preflight()
    assert problem.remedy == "modprobe nft_nat"
    assert "syntax error" in problem.what
    monkeypatch.setattr(preflight, "_CAPABILITIES", {"CAP_IMAGINARY": 62})
    (problem,) = preflight.preflight()
    assert "CAP_IMAGINARY" in problem.what
    assert "root" in problem.remedy
