import time

from storage import signing


def test_only_the_same_path_and_expiry_verify():
    expires = int(time.time()) + 60
    signature = signing.sign("/files/a", expires)
    assert signing.verify("/files/a", expires, signature)
    assert signing.verify("/files/a", str(expires), signature)
    assert not signing.verify("/files/b", expires, signature)
    assert not signing.verify("/files/a", expires + 1, signature)
    assert not signing.verify("/files/a", expires, signature[:-1] + ("0" if signature[-1] != "0" else "1"))
    assert not signing.verify("/files/a", expires, "")
    assert not signing.verify("/files/a", expires, "ü")


def test_it_ends_at_its_expiry():
    signature = signing.sign("/files/a", 1000)
    assert signing.verify("/files/a", 1000, signature, now=1000)
    assert not signing.verify("/files/a", 1000, signature, now=1000.5)


def test_odd_expiries_are_refused():
    for expires in ("", "-1", "1e9", "٣", " 5", "5\n"):
        assert not signing.verify("/files/a", expires, "0" * 64)


def test_a_rotated_secret_still_verifies(settings):
    expires = int(time.time()) + 60
    old = signing.sign("/files/a", expires)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "n" * 50
    assert signing.verify("/files/a", expires, old)
    settings.SECRET_KEY_FALLBACKS = []
    assert not signing.verify("/files/a", expires, old)
