import torch

from gazepack.autogaze.config import END
from gazepack.autogaze.taking import Taking

CPU = torch.device("cpu")


def begun(*budgets):
    taking = Taking(len(budgets), 3, device=CPU)
    taking.begin(torch.tensor(budgets))
    return taking


def offer(taking, ids, losses, threshold=None):
    ids, losses = torch.tensor(ids), torch.tensor(losses)
    kept = taking.offer(ids, losses, loss_threshold=threshold)
    taking.note(ids, losses, kept)
    return kept.tolist()


def test_a_drop_ends_the_frame_but_not_its_step():
    """A slot at the threshold is dropped, a later one above it kept, and nothing after this step."""
    taking = begun(9, 9)
    assert offer(taking, [[1, 2, 3], [4, 5, 6]], [[2.0, 1, 2], [2, 2, 2]], 1.0) == [
        [True, False, True],
        [True] * 3,
    ]
    assert taking.is_open_B.tolist() == [False, True]
    assert taking.unfed_BK.tolist() == [[1, 3, END], [4, 5, 6]]
    assert taking.num_unfed_B.tolist() == [2, 3]
    offer(taking, [[7, 8, 9], [7, 8, 9]], [[2.0, 2, 2]] * 2, 1.0)
    assert [row.ids for row in taking.rows()] == [[1, 3], [4, 5, 6, 7, 8, 9]]
    assert taking.unfed_BK[0].tolist() == [1, 3, END]  # an ended row keeps what is still to be fed


def test_only_the_first_slot_of_a_frame_is_kept_in_any_case():
    """The second step's first slot is dropped like any other."""
    taking = begun(9)
    assert offer(taking, [[1, 2, 3]], [[0.0, 5, 5]], 1.0) == [[True] * 3]
    assert offer(taking, [[4, 5, 6]], [[0.0, 5, 5]], 1.0) == [[False, True, True]]
    assert not taking.is_open_B.any()


def test_rows_end_at_budgets_of_their_own():
    """Slots beyond a budget are not kept; a budget that a step fills ends the frame."""
    taking = begun(1, 3, 4)
    offer(taking, [[1, 2, 3]] * 3, [[0.5] * 3] * 3)
    assert taking.is_open_B.tolist() == [False, False, True]
    offer(taking, [[4, 5, 6]] * 3, [[0.25] * 3] * 3)
    assert not taking.is_open_B.any()
    rows = taking.rows()
    assert [row.ids for row in rows] == [[1], [1, 2, 3], [1, 2, 3, 4]]
    assert rows[2].loss == [0.5, 0.5, 0.5, 0.25]


def test_a_new_frame_forgets_the_last_but_what_is_unfed():
    """Left-over tokens wait to be fed."""
    taking = begun(2)
    offer(taking, [[7, 8, 9]], [[1.0] * 3])
    taking.begin(torch.tensor([2]))
    assert taking.unfed_BK.tolist() == [[7, 8, END]]
    offer(taking, [[1, 2, 3]], [[1.0] * 3])
    assert taking.rows()[0].ids == [1, 2]
    taking.clear()
    assert taking.num_unfed_B.tolist() == [0]
