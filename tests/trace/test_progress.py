"""A bar over long traces changes nothing about what is gone through, and stays away where nobody waits."""

import threading

from workbench.trace.progress import MANY, progress


def test_the_items_come_through_and_a_bar_is_only_made_for_many_of_them_on_the_main_thread():
    few, many = range(MANY - 1), range(MANY)
    assert progress(few, "few") is few
    shown = progress(many, "many")
    assert shown is not many
    assert list(shown) == list(many)
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(progress(many, "many")))
    thread.start()
    thread.join()
    assert elsewhere == [many]
    assert elsewhere[0] is many
