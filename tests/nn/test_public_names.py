import fastvid.nn


def test_every_public_name_is_there():
    for name in fastvid.nn.__all__:
        assert getattr(fastvid.nn, name) is not None
